/**
 * Changing a session's data beside others who change it, too.
 *
 * Nothing here lives longer than the call.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import type { SessionError } from "../SessionError.ts"
import type { Session, Versioned } from "./SessionHandle.ts"
import type { Snapshot } from "./SessionState.ts"

/** How often `modify` tries. */
const tries = 16
/**
 * It waits at most so many times as long as the try took: twice after the first, then twice as much each time, up to this. Others
 * need about as long, and the more of them there are, the further apart they have to be.
 */
const longestWait = 32
/** The shortest try that is counted, in milliseconds. */
const shortestTry = 8

/** A handle's ways to its data. */
export interface Access<Data> {
  readonly snapshot: Effect.Effect<Snapshot<Data>, SessionError>
  /** Writes data if the session is at this version still. */
  readonly write: (value: Data, read: Snapshot<Data>, version: number) => Effect.Effect<Versioned<Data>, SessionError>
  /** Reads the session again. */
  readonly refresh: Effect.Effect<void, SessionError>
}

/** Changes the data, again and again while somebody else was faster. */
export const modify = <Data>({ refresh, snapshot, write }: Access<Data>): Session<Data>["modify"] =>
  Effect.fnUntraced(function* (change) {
    const once = Effect.gen(function* () {
      const read = yield* snapshot
      const changed = change(read.data)
      const value = Effect.isEffect(changed) ? yield* changed : changed
      return Result.map(yield* Effect.result(write(value, read, read.version)), () => value)
    })
    for (let number = 1; ; number++) {
      // Read within the try, and not before a wait: what was read then would be old again.
      const [took, written] = yield* Effect.timed(number === 1 ? once : Effect.andThen(refresh, once))
      if (Result.isSuccess(written)) return written.success
      if (written.failure.reason._tag !== "SessionConflict" || number === tries) return yield* written.failure
      const longest = Math.min(2 ** number, longestWait) * Math.max(Duration.toMillis(took), shortestTry)
      yield* Effect.sleep(longest * (yield* Random.next))
    }
  })
