/**
 * How many connections a pool may have: as many as its options say, or as few as the server has room for.
 *
 * What a server, a database, a role or a pooler allows is found out by being refused. The pool keeps to it for a minute and then
 * tries again, because others may have left. What it found, and why connections cannot be opened, is logged when it changes.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import type { ConnectionError } from "../ConnectionError.ts"

const forgottenAfter = Duration.minutes(1)

/** While somebody waits, one more is tried for every so many milliseconds. */
const probeMillis = { none: 1000, some: 5000 }

/** Begins with all the room there may be. `now` is in milliseconds. */
export const make = (source: string, most: number, now: () => number) => {
  let max = most
  let until = 0
  let probeAt = 0
  let refusal: ConnectionError | undefined
  let told: string | undefined

  const tell = (line: string, what = line) =>
    Effect.suspend(() => {
      if (told === what) return Effect.void
      told = what
      return LogEvent.warning({ event: "connection.refused", source }, line)
    })

  return {
    max: () => max,
    /** Why there is less than there may be. */
    refusal: () => (max < most ? refusal : undefined),
    /** One could be opened. `slots` is how many there are. */
    opened: (slots: number) =>
      Effect.suspend(() => {
        max = Math.max(max, slots)
        if (told === undefined || max < most) return Effect.void
        told = undefined
        return LogEvent.info({ event: "connection.accepted", source }, `Connections to ${source} can be opened again`)
      }),
    /**
     * One could not be opened, and `slots` are left. Returns whether that is for want of room. What is wrong with one of many roles
     * is for those who use it.
     */
    refused: (cause: Cause.Cause<ConnectionError>, slots: number, role: string | undefined) =>
      Effect.suspend(() => {
        const error = Option.getOrUndefined(Cause.findErrorOption(cause))
        if (error?.reason._tag !== "NoRoom") {
          const line = `A connection cannot be opened. ${error?.message ?? Cause.pretty(cause)}`
          return Effect.as(
            role === undefined ? tell(line) : LogEvent.debug({ event: "connection.refused", source }, line),
            false
          )
        }
        refusal = error
        max = Math.min(most, slots)
        until = now() + Duration.toMillis(forgottenAfter)
        probeAt = now() + (slots === 0 ? probeMillis.none : probeMillis.some)
        return Effect.as(
          tell(`The pool makes do with the connections that are open. ${error.message}`, "no room"),
          true
        )
      }),
    /** Called again and again: tries for more when that is due. */
    look: (slots: number, waiting: number): void => {
      if (max === most) return
      if (now() >= until) max = most
      else if (waiting > 0 && now() >= probeAt) max = Math.min(most, slots + 1)
    }
  }
}
