/**
 * Runs an effect many times, each time with the scheduler yielding after another number of operations, so that whatever
 * interruption or competing fiber there is lands on each point where a fiber can be suspended.
 *
 * Every run has a scope of its own that is closed before the next begins. `HOLDFAST_TEST_SCALE` (a whole number, default
 * 1) multiplies the runs.
 */
import * as Effect from "effect/Effect"
import * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"

/** How much larger than usual sweeps, soaks and models run. */
export const scale = Math.max(1, Math.trunc(Number(process.env.HOLDFAST_TEST_SCALE ?? "1")) || 1)

/** The numbers of operations after which the scheduler yields. */
export const steps: ReadonlyArray<number> = Array.from({ length: 62 }, (_, index) => index + 3)

/** How to sweep. */
export interface Options {
  readonly steps?: ReadonlyArray<number> | undefined
  /**
   * Sweeps that share the steps: of so many, this is the one of this number, from 0. Each repetition gives it other steps, so
   * that at a scale of `of` every one has had all of them. Default: all steps.
   */
  readonly share?: { readonly number: number; readonly of: number } | undefined
}

const stepsOf = ({ share, steps: all = steps }: Options, repetition: number) =>
  share === undefined ? all : all.filter((_, index) => (index + repetition) % share.of === share.number)

/** Runs the effect once per step and repetition; fails with the first failure. */
export const sweep = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  options: Options = {}
): Effect.Effect<void, E, Exclude<R, Scope.Scope>> =>
  Effect.forEach(
    Array.from({ length: scale }, (_, repetition) => stepsOf(options, repetition)).flat(),
    (step) => Effect.provideService(Effect.scoped(effect), Scheduler.MaxOpsBeforeYield, step),
    { discard: true }
  )
