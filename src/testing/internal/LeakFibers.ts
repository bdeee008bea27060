/**
 * Which fibers are alive: those that have run on the default scheduler since somebody began to watch.
 *
 * The scheduler is asked before every step of every fiber, so it sees them all. It is left as it was when nobody watches any more.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import * as LeakPlaces from "./LeakPlaces.ts"

type AnyFiber = Fiber.Fiber<unknown, unknown>

const alive = new Map<AnyFiber, LeakPlaces.Place>()
/** The number of the one that runs: most steps follow another step of the same fiber. */
let running = -1
let watchers = 0

/** Fibers are numbered as they are made. */
export const nextId = (): number => Effect.runFork(Effect.void).id

const note = (fiber: AnyFiber) => {
  running = fiber.id
  if (alive.has(fiber)) return
  alive.set(fiber, LeakPlaces.ofFiber(fiber))
  fiber.addObserver(() => alive.delete(fiber))
}

/** Begins to watch. The answer ends it. */
export const watch = (): (() => void) => {
  const scheduler = Context.get(Context.empty(), Scheduler.Scheduler)
  if (watchers++ === 0) {
    const original = scheduler.shouldYield
    Object.defineProperty(scheduler, "shouldYield", {
      configurable: true,
      value: (fiber: AnyFiber) => {
        if (fiber.id !== running) note(fiber)
        return original.call(scheduler, fiber)
      }
    })
  }
  let isWatching = true
  return () => {
    if (!isWatching) return
    isWatching = false
    if (--watchers > 0) return
    Reflect.deleteProperty(scheduler, "shouldYield")
    alive.clear()
    running = -1
  }
}

/** Those that were made between two numbers and are alive. */
export const between = (from: number, to: number) =>
  Array.from(alive)
    .filter(([{ id }]) => id > from && id < to)
    .map(([{ id }, place]) => ({ id, place }))
