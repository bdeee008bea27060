/**
 * What became of logins: counted one by one, and told.
 *
 * A failed login is one line, which is no way to fill a disk because few passwords can be checked in a second. Attempts that are
 * refused unchecked are told in bursts. A name is in a line only where there is such a user: some type their password there
 * (OWASP Logging, "Data to exclude").
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as Bursts from "../lifetime/internal/Bursts.ts"
import * as Series from "../lifetime/internal/Series.ts"
import type { LoginsRefused } from "./Logins.ts"
import { Users } from "./Users.ts"

const logins = Series.counter("holdfast_logins_total", "Attempts to log in, by outcome")

/** What became of an attempt. */
export type Outcome =
  /** A session began. */
  | "Succeeded"
  /** No such user, or not their password. */
  | "InvalidCredentials"
  /** Too many attempts had failed: no password was checked. */
  | "TooManyFailures"
  /** Too many attempts were waiting. */
  | "TooManyWaiting"
  /** All sessions of the user were ended meanwhile. */
  | "SessionRevoked"
  /** A store could not be asked. */
  | "Unavailable"

const outcomes = Series.by((outcome) => logins({ outcome }))
const count = (outcome: Outcome) => Metric.update(outcomes(outcome), 1)

const refusals: { readonly [Because in LoginsRefused["because"]]: readonly [Outcome, string] } = {
  failures: ["TooManyFailures", "Logins were refused, because too many had failed for this user or from this address"],
  waiting: ["TooManyWaiting", "Logins were refused, because too many were waiting"]
}

/** Over the {@link Users} in context; what is held back is told when the scope closes. */
export const make = Effect.gen(function* () {
  const users = yield* Users
  let last: { readonly ip: string } | undefined
  const refusing = Bursts.makeUnsafe((because: LoginsRefused["because"], count) =>
    LogEvent.warning({ event: "login.refused", because, count, ip: last?.ip }, refusals[because][1])
  )
  yield* Effect.forkScoped(Effect.repeat(refusing.flush, Schedule.spaced(Bursts.length)))
  yield* Effect.addFinalizer(() => refusing.flush)
  return {
    count,
    /** A password was checked and was wrong. */
    failed: Effect.fnUntraced(function* (username: string, ip: string) {
      const isUser = yield* Effect.orElseSucceed(users.isThere(username), () => false)
      yield* count("InvalidCredentials")
      const user = isUser ? username : undefined
      yield* LogEvent.warning(
        { event: "login.failed", user, because: isUser ? "password" : "user", ip },
        "A login failed"
      )
    }),
    refused: (because: LoginsRefused["because"], ip: string) =>
      Effect.suspend(() => {
        last = { ip }
        return Effect.andThen(count(refusals[because][0]), refusing.note(because))
      })
  }
})
