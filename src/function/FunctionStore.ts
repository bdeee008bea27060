/**
 * Where functions are kept, and the clock by which their time is up.
 *
 * A function is found from the answer of its creation until it is ended, is not executed for its idle timeout, or has its absolute
 * timeout behind it, whichever comes first.
 *
 * **When to use**
 *
 * `PgFunctionStore` is for several instances; `MemoryFunctionStore` for one, or a test. Another principal who knows an id is
 * answered as if there were no such function (law F5).
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { FunctionError } from "./FunctionError.ts"
import type { FunctionId } from "./FunctionId.ts"
import type { FunctionRecord } from "./FunctionRecord.ts"

/** A function to be. */
export interface NewFunction extends Pick<FunctionRecord, "principal" | "language" | "title" | "script" | "context"> {
  readonly id: FunctionId
  readonly idleTimeout: Duration.Duration
  readonly absoluteTimeout: Duration.Duration
}

/** What one principal may have stored. What other instances create within a second may exceed it. */
export interface Room {
  readonly functions: number
  /** Of scripts and contexts, in UTF-8. */
  readonly bytes: number
}

/** Part of a principal's functions. */
export interface Listing {
  readonly functions: ReadonlyArray<FunctionRecord>
  /** Pass it as `after` to get those that follow, if there are any. */
  readonly next: FunctionId | undefined
}

/** How many of a principal's functions. */
export interface ListOptions {
  /** At most so many. Default: 100. */
  readonly limit?: number | undefined
  /** The `next` of the listing before. Default: from the newest. */
  readonly after?: FunctionId | undefined
}

export class FunctionStore extends Context.Service<
  FunctionStore,
  {
    /** Fails with `FunctionRejected` where the principal has no room for it. */
    readonly create: (created: NewFunction, room: Room) => Effect.Effect<FunctionRecord, FunctionError>
    readonly find: (principal: string, id: FunctionId) => Effect.Effect<FunctionRecord, FunctionError>
    /**
     * As `find`, for an execution: the idle timeout begins anew. It is written at most once per touch interval, a tenth of the
     * timeout and at most a minute, and enforced so much later, so that no function expires early.
     */
    readonly use: (principal: string, id: FunctionId) => Effect.Effect<FunctionRecord, FunctionError>
    /** The newest first. */
    readonly list: (principal: string, options?: ListOptions) => Effect.Effect<Listing, FunctionError>
    /** Whether it was there. */
    readonly end: (principal: string, id: FunctionId) => Effect.Effect<boolean, FunctionError>
    /** Those of the ids that were ended, or are long gone. */
    readonly endedOf: (ids: ReadonlyArray<FunctionId>) => Effect.Effect<ReadonlyArray<FunctionId>, FunctionError>
    /** Removes some whose time is up, and tells how many. Nothing depends on it but space. */
    readonly prune: (limit: number) => Effect.Effect<number, FunctionError>
    readonly ping: Effect.Effect<void, FunctionError>
  }
>()("holdfast/function/FunctionStore") {}

/** How often the use of a function is written at most, in milliseconds. */
export const touchMillis = (idleMillis: number): number => Math.min(idleMillis / 10, 60_000)
