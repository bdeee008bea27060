/**
 * The laws that every `SessionStore` keeps, as a suite for a store of your own.
 *
 * Each law is one test, and has a {@link World} of its own: its layer is built before the law, fresh, and closes after it.
 *
 * **When to use**
 *
 * In the test file of a store: call {@link run} at the top level. The stores that come along run the same suite.
 *
 * **Details**
 *
 * Install `@effect/vitest` and `vitest`, which run the tests. A law that a declared capability leaves out is printed.
 *
 * **Gotchas**
 *
 * Time passes by the store's own clock, see `World.advance`. To move the times that are stored instead hides faults of a
 * store that remembers sessions: what is rewritten is not remembered any more.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { SessionStore } from "../session/SessionStore.ts"
import * as Laws from "./internal/Laws.ts"
import type { Instances, Need } from "./internal/SessionStoreLaw.ts"
import * as Activity from "./internal/SessionStoreLawsActivity.ts"
import * as Data from "./internal/SessionStoreLawsData.ts"
import * as Ends from "./internal/SessionStoreLawsEnds.ts"
import * as Logins from "./internal/SessionStoreLawsLogins.ts"
import * as Tokens from "./internal/SessionStoreLawsTokens.ts"

/** Where a law is tried. Empty at its beginning, and without anybody who prunes. */
export class World extends Context.Service<
  World,
  {
    readonly store: SessionStore["Service"]
    /** A second instance over the same sessions. Where the store is for one process alone: the first. */
    readonly another: SessionStore["Service"]
    /**
     * Moves the store's clock, back too where the duration is negative: later answers take the new time, and nothing that is
     * stored changes. With `TestClock` it is `TestClock.adjust`.
     */
    readonly advance: (by: Duration.Input) => Effect.Effect<void, unknown>
  }
>()("holdfast/testing/SessionStoreLaws/World") {}

/** What the world of a store can do. */
export interface Capabilities {
  /** What the tests are called. */
  readonly name: string
  /**
   * Whose time the store takes. `test`: that of Effect's `Clock`, so the laws run in `it.effect`. `server`: that of a server or
   * a library, so they run in `it.live`.
   */
  readonly clock: "test" | "server"
  /**
   * What `advance` can do with that clock: `both` ways, `forward` only, or `nothing`. Default: `both`. What it cannot do
   * leaves laws out.
   */
  readonly moves?: "both" | "forward" | "nothing" | undefined
  /** Whether `ended` tells of ends. Default: true. A store without hints is asked every ten seconds all the same. */
  readonly hints?: boolean | undefined
}

/** How to try the laws. */
export interface Options<R = never> {
  /** Only the laws of these names. Default: all. A name that does not exist is an error. */
  readonly only?: ReadonlyArray<string> | undefined
  /**
   * Tries each law once for each number, with fibers suspended after so many operations (see `InterruptSweep`). Default: once,
   * as the runtime decides.
   */
  readonly steps?: ReadonlyArray<number> | undefined
  /** How long one law may take. Default for `run`: what vitest is configured to. For `check`: 20 seconds. */
  readonly limit?: Duration.Input | undefined
  /**
   * Declares one test. Where the world needs services: `it.effect` of a `layer(…, { excludeTestServices: true })` of `@effect/vitest` that
   * provides them. Default: `it.live`, or `it.effect` where the clock is `test`.
   */
  readonly test?: Laws.Declare<R> | undefined
}

/** The laws, by subject: data, ends, activity, tokens, logins. */
export const laws: ReadonlyArray<Laws.Law<Instances, Need>> = [
  ...Data.laws,
  ...Ends.laws,
  ...Activity.laws,
  ...Tokens.laws,
  ...Logins.laws
]

const trials = <R>({ clock, hints = true, moves = "both", name }: Capabilities, options: Options<R>) => ({
  ...options,
  name,
  laws,
  time: clock === "test" ? ("test" as const) : ("real" as const),
  has: (need: Need) => ({ clock: moves !== "nothing", clockBack: moves === "both", hints: hints })[need]
})

/** Declares a test for each law. */
export const run = <E, R = never>(
  layer: Layer.Layer<World, E, R>,
  capabilities: Capabilities,
  ...[options = {}]: Laws.Rest<R, Options<R>>
): void => Laws.run(World, layer, trials(capabilities, options))

/** Tries the laws one after the other without a test runner, and tells the broken ones with what the trial said. */
export const check = <E>(
  layer: Layer.Layer<World, E>,
  capabilities: Capabilities,
  options: Options = {}
): Effect.Effect<ReadonlyArray<Laws.Broken>> => Laws.check(World, layer, trials(capabilities, options))
