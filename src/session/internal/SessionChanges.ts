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

/** How often `modify` begins anew, and how long it waits at most before, in milliseconds, where the store is quick. */
const attempts = 16
const longestWait = 256
/** Where the store is slow, it waits up to so many times as long as the write took: others need as long. */
const writesWaitedFor = 8

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
    for (let attempt = 1; ; attempt++) {
      const read = yield* snapshot
      const changed = change(read.data)
      const value = Effect.isEffect(changed) ? yield* changed : changed
      const [took, written] = yield* Effect.timed(Effect.result(write(value, read, read.version)))
      if (Result.isSuccess(written)) return value
      if (written.failure.reason._tag !== "SessionConflict" || attempt === attempts) return yield* written.failure
      // Read after the wait: what was read before it would be old again.
      const longest = Math.min(2 ** attempt, longestWait) + writesWaitedFor * Duration.toMillis(took)
      yield* Effect.sleep(longest * (yield* Random.next))
      yield* refresh
    }
  })
