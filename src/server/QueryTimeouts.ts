/**
 * How long a query of the service may take, from its submission to its outcome.
 *
 * The operator says how long it is usually and at most, and may name users who have a time of their own; a call may ask for
 * less or more. So no place is held for ever (law I3).
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Durations from "./Durations.ts"
import * as Problem from "../http/Problem.ts"

/** What the operator says. */
export interface Timeouts {
  /** Of a call that asks for none. */
  readonly usual: Duration.Duration
  /** The longest that a call may ask for. */
  readonly longest: Duration.Duration
  /** Users who have their own instead of both. */
  readonly users: ReadonlyMap<string, Duration.Duration>
}

export class QueryTimeouts extends Context.Service<QueryTimeouts, Timeouts>()("holdfast/server/QueryTimeouts") {}

/** Nobody may have more. */
export const longest = Duration.days(1)

/** Reads `alice=5 minutes,etl=8 hours`; undefined where it is no such list, or a time is none or longer than a day. */
export const parseUsers = (text: string): ReadonlyMap<string, Duration.Duration> | undefined => {
  const users = new Map<string, Duration.Duration>()
  for (const entry of text.trim() === "" ? [] : text.split(",")) {
    const at = entry.lastIndexOf("=")
    const name = entry.slice(0, Math.max(at, 0)).trim()
    const timeout = Option.getOrUndefined(Durations.parse(entry.slice(at + 1)))
    if (name === "" || users.has(name) || timeout === undefined) return undefined
    if (Duration.toMillis(timeout) <= 0 || Duration.isGreaterThan(timeout, longest)) return undefined
    users.set(name, timeout)
  }
  return users
}

/** The deadline of a call; undefined is the usual one. */
export const of = (
  timeouts: Timeouts,
  user: string,
  askedMillis: number | undefined
): Effect.Effect<Duration.Duration | undefined, Problem.RequestInvalid> => {
  const theirs = timeouts.users.get(user)
  if (askedMillis === undefined) return Effect.succeed(theirs)
  const most = Duration.toMillis(theirs ?? timeouts.longest)
  return askedMillis <= most
    ? Effect.succeed(Duration.millis(askedMillis))
    : Effect.fail(
        new Problem.RequestInvalid({
          detail: `timeoutMs may be ${most} at most. Ask for less, or leave it out; the operator can allow more.`
        })
      )
}
