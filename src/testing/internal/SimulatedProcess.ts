/**
 * A process whose every choice is a seed's: which fiber goes on, where one is suspended, and when time passes.
 *
 * It lives for one run, which is one call that never gives the thread away. Meanwhile it stands in for the timers, the clock
 * and the random numbers of the platform, so that nothing comes from outside.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import * as Ledger from "../../lifetime/Ledger.ts"

/** Choices that are the same for the same seed (mulberry32). */
export class Choices {
  #state: number

  constructor(seed: number, stream = 0) {
    // The streams of a seed, and those of its neighbours, have nothing in common.
    this.#state = Math.imul(seed ^ Math.imul(stream + 1, 0x9e3779b9), 0x85ebca6b) ^ (seed / 4294967296)
    this.next()
  }
  /** From 0 to 1, without 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  /** A whole number below the count. */
  below(count: number): number {
    return Math.floor(this.next() * count)
  }
  chance(share: number): boolean {
    return this.next() < share
  }
  pick<A>(all: readonly [A, ...ReadonlyArray<A>]): A {
    return all[this.below(all.length)] ?? all[0]
  }
}

/** How fibers are chosen. */
export interface Style {
  /** The share of operations after which a fiber is suspended. */
  readonly suspends: number
  /** The share of turns that do not go to the fiber that waits longest. */
  readonly reorders: number
}

/** The order of the runtime itself. */
export const plain: Style = { suspends: 0, reorders: 0 }

interface Timer {
  readonly at: number
  readonly run: () => void
}

/** No run needs so many turns. */
const mostTurns = 50_000

/** Why a run ended. */
export type Ended = "over" | "stands still" | "does not end"

export class SimulatedProcess implements Scheduler.Scheduler {
  readonly executionMode = "async"
  readonly #choices: Choices
  readonly #style: Style
  #ready: Array<() => void> = []
  #timers: Array<Timer> = []
  #millis = 0
  #ahead = 1_700_000_000_000
  switches = 0

  constructor(choices: Choices, style: Style) {
    this.#choices = choices
    this.#style = style
  }

  shouldYield(): boolean {
    return this.#style.suspends > 0 && this.#choices.next() < this.#style.suspends
  }
  makeDispatcher(): Scheduler.SchedulerDispatcher {
    return { scheduleTask: (task) => void this.#ready.push(task), flush: () => undefined }
  }

  /** Milliseconds of time that nobody sets, since the run began. */
  get elapsed(): number {
    return this.#millis
  }
  /** The time of day in milliseconds. */
  get timeOfDay(): number {
    return this.#millis + this.#ahead
  }
  /** Sets the time of day on, or back. */
  set(by: number): void {
    this.#ahead += by
  }

  #after(millis: number, run: () => void): Timer {
    const timer = { at: this.#millis + Math.max(millis, 0), run }
    this.#timers.push(timer)
    return timer
  }
  #forget(timer: unknown): void {
    const index = this.#timers.indexOf(timer as Timer)
    if (index >= 0) this.#timers.splice(index, 1)
  }

  readonly clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => this.timeOfDay,
    currentTimeMillis: Effect.sync(() => this.timeOfDay),
    currentTimeNanosUnsafe: () => BigInt(Math.round(this.timeOfDay * 1e6)),
    currentTimeNanos: Effect.sync(() => BigInt(Math.round(this.timeOfDay * 1e6))),
    monotonicTimeNanosUnsafe: () => BigInt(Math.round(this.#millis * 1e6)),
    monotonicTimeNanos: Effect.sync(() => BigInt(Math.round(this.#millis * 1e6))),
    sleep: (duration) =>
      Effect.callback<void>((resume) => {
        const millis = Duration.toMillis(duration)
        if (millis <= 0) return resume(Effect.void)
        if (millis === Infinity) return
        const timer = this.#after(millis, () => resume(Effect.void))
        return Effect.sync(() => this.#forget(timer))
      })
  }

  /** What every run has: this process as scheduler and clock, a ledger of its own, and no log. */
  context(ledger: Ledger.Ledger): Context.Context<never> {
    return Context.make(Scheduler.Scheduler, this as Scheduler.Scheduler).pipe(
      Context.add(Clock.Clock, this.clock),
      Context.add(Ledger.Ledger, ledger),
      Context.add(References.MinimumLogLevel, "None")
    ) as Context.Context<never>
  }

  /** One turn: a fiber goes on, or else time passes until one can. False where neither is possible. */
  #turn(): boolean {
    const ready = this.#ready
    if (ready.length > 0) {
      let index = 0
      if (ready.length > 1 && this.#style.reorders > 0 && this.#choices.next() < this.#style.reorders) {
        index = this.#choices.below(ready.length)
        if (index > 0) this.switches++
      }
      const task = index === 0 ? ready.shift() : ready.splice(index, 1)[0]
      task?.()
      return true
    }
    let next: Timer | undefined
    for (const timer of this.#timers) if (next === undefined || timer.at < next.at) next = timer
    if (next === undefined) return false
    this.#forget(next)
    this.#millis = Math.max(this.#millis, next.at)
    next.run()
    return true
  }

  /** Runs an effect to its end, or as far as it gets. */
  run<A, E>(
    effect: Effect.Effect<A, E>,
    ledger: Ledger.Ledger
  ): { readonly ended: Ended; readonly fiber: Fiber.Fiber<A, E> } {
    const restore = this.#own()
    try {
      const fiber = Effect.runForkWith(this.context(ledger))(effect)
      for (let turns = 0; turns < mostTurns; turns++) {
        if (fiber.pollUnsafe() !== undefined) return { ended: "over", fiber }
        if (!this.#turn()) return { ended: "stands still", fiber }
      }
      return { ended: "does not end", fiber }
    } finally {
      restore()
    }
  }

  /** Puts this process in the place of what the platform has. Answers how to give it back. */
  #own(): () => void {
    const { clearImmediate, clearTimeout, setImmediate, setTimeout } = globalThis
    const [dateNow, random, now] = [Date.now, Math.random, performance.now]
    const clear = (timer: unknown) => this.#forget(timer)
    const set = (
      run: (...parameters: ReadonlyArray<unknown>) => void,
      millis = 0,
      ...parameters: ReadonlyArray<unknown>
    ) =>
      Object.assign(
        this.#after(millis, () => run(...parameters)),
        { ref: () => undefined, unref: () => undefined }
      )
    Object.assign(globalThis, {
      setTimeout: set,
      clearTimeout: clear,
      setImmediate: (run: () => void, ...parameters: ReadonlyArray<unknown>) => set(run, 0, ...parameters),
      clearImmediate: clear
    })
    // Most errors of a run are answers, and nobody looks where they were made.
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = 0
    Date.now = () => this.timeOfDay
    Math.random = () => this.#choices.next()
    performance.now = () => this.#millis
    return () => {
      Object.assign(globalThis, { setTimeout, clearTimeout, setImmediate, clearImmediate })
      Error.stackTraceLimit = stackTraceLimit
      Date.now = dateNow
      Math.random = random
      performance.now = now
    }
  }
}
