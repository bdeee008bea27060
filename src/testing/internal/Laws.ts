/** Laws as values, and how they become tests. */
import { describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Ledger from "../../lifetime/Ledger.ts"
import * as InterruptSweep from "../InterruptSweep.ts"
import * as LedgerRecorder from "../LedgerRecorder.ts"
import * as Eventually from "./Eventually.ts"

/** A law, what it needs of a world, and a trial that fails where the law is broken. */
export interface Law<World, Need extends string> {
  /** The law in plain words. */
  readonly name: string
  /** The capabilities without which the law cannot be tried. */
  readonly needs: ReadonlyArray<Need>
  readonly trial: (world: World) => Effect.Effect<unknown, unknown, Scope.Scope>
}

/** By which clock a law is tried: Effect's `TestClock`, which only the test moves, or the real one. */
export type Time = "test" | "real"

/** Declares one test, as `it.effect` and `it.live` do. */
export type Declare<R> = (name: string, law: () => Effect.Effect<unknown, unknown, R>, limit?: number) => void

/** Options that may be left out where nothing is needed, and not where a test has to provide what the world needs. */
export type Rest<R, Options extends { readonly test?: Declare<R> | undefined }> = [R] extends [never]
  ? [options?: Options]
  : [options: Options & { readonly test: Declare<R> }]

/** How the laws of one adapter are tried. */
export interface Trials<World, Need extends string, R = never> {
  readonly name: string
  readonly laws: ReadonlyArray<Law<World, Need>>
  readonly time: Time
  readonly has: (need: Need) => boolean
  readonly only?: ReadonlyArray<string> | undefined
  readonly steps?: ReadonlyArray<number> | undefined
  readonly limit?: Duration.Input | undefined
  readonly test?: Declare<R> | undefined
}

/** A law that some adapter does not keep, and what the trial said, with its place in the law. */
export interface Broken {
  readonly law: string
  readonly error: string
}

/** Tries a law once, in a world and with a ledger of its own. When the world has closed, the ledger is empty. */
const tried = <Id, World, E, R>(
  service: Context.Service<Id, World>,
  layer: Layer.Layer<Id, E, R>,
  law: Law<World, string>,
  steps?: ReadonlyArray<number>
) => {
  const once = Effect.scoped(
    Effect.flatMap(Layer.build(Layer.fresh(layer)), (context) => law.trial(Context.get(context, service)))
  ).pipe(Effect.andThen(LedgerRecorder.assertEmpty()), Effect.provide(Layer.fresh(Ledger.layer)))
  return steps === undefined ? once : InterruptSweep.sweep(once, { steps })
}

const chosen = <World, Need extends string, R>({ has, laws, name, only }: Trials<World, Need, R>) => {
  const unknown = (only ?? []).filter((wanted) => laws.every((law) => law.name !== wanted))
  if (unknown.length > 0) {
    throw new Error(`${name}: \`only\` names laws that do not exist: ${unknown.join("; ")}. Take names from \`laws\`.`)
  }
  const wanted = only === undefined ? laws : laws.filter((law) => only.includes(law.name))
  const isTried = (law: Law<World, Need>) => law.needs.every(has)
  const leftOut = wanted.filter((law) => !isTried(law))
  return { tried: wanted.filter(isTried), leftOut }
}

/** Declares a test for each law, and prints the laws that the declared capabilities leave out. */
export const run = <Id, World, E, R, Need extends string>(
  service: Context.Service<Id, World>,
  layer: Layer.Layer<Id, E, R>,
  trials: Trials<World, Need, R>
): void => {
  const { leftOut, tried: laws } = chosen(trials)
  // Without a `test`, the layer needs nothing: see `Rest`.
  const test = trials.test ?? ((trials.time === "test" ? it.effect : it.live) as Declare<R>)
  const limit = trials.limit === undefined ? undefined : Duration.toMillis(Duration.fromInputUnsafe(trials.limit))
  describe(trials.name, () => {
    for (const law of laws) test(law.name, () => tried(service, layer, law, trials.steps), limit)
  })
  if (leftOut.length > 0) {
    const lines = leftOut.map(
      ({ name, needs }) => `  ${name} (needs ${needs.filter((need) => !trials.has(need)).join(", ")})`
    )
    console.log(`${trials.name} has no place for these laws:\n${lines.join("\n")}`)
  }
}

/** Tries each law without a test runner, one after the other, and tells which are broken. */
export const check = <Id, World, E, Need extends string>(
  service: Context.Service<Id, World>,
  layer: Layer.Layer<Id, E>,
  trials: Trials<World, Need>
): Effect.Effect<ReadonlyArray<Broken>> =>
  Effect.map(
    Effect.forEach(chosen(trials).tried, (law) => {
      const patience = trials.limit ?? "10 seconds"
      const trial = tried(service, layer, law, trials.steps).pipe(
        Effect.provideService(Eventually.Patience, patience),
        (once) => (trials.time === "test" ? Effect.provide(once, Layer.fresh(TestClock.layer())) : once)
      )
      // The limit is in real time, also where the clock of the test stands still.
      const limited = Effect.raceFirst(
        Effect.exit(trial),
        Effect.as(
          Eventually.live(Effect.sleep(Duration.times(Duration.fromInputUnsafe(patience), 2))),
          Exit.die(new Error(`It was not over in time (2 × ${Duration.format(Duration.fromInputUnsafe(patience))})`))
        )
      )
      return Effect.map(limited, (exit) =>
        Exit.isSuccess(exit) ? [] : [{ law: law.name, error: Cause.pretty(exit.cause) }]
      )
    }),
    (all) => all.flat()
  )
