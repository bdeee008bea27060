/**
 * Things that anybody can make happen as often as they like, told in bursts so that nobody can fill a disk: the first at once, the
 * next ones together, at most once a minute for each key.
 *
 * What is held back is kept until it is told, or as long as the bursts themselves.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as SteadyClock from "./SteadyClock.ts"

/** How long things are held back to be told together. */
export const length = Duration.minutes(1)

/** Tells how often a thing happened since it was told last. */
export type Tell<Key> = (key: Key, count: number) => Effect.Effect<void>

export interface Bursts<Key> {
  readonly note: (key: Key) => Effect.Effect<void>
  /** Tells what was held back. To be called once a minute, and at the end. */
  readonly flush: Effect.Effect<void>
}

const now = Clock.clockWith((clock) => Effect.sync(() => SteadyClock.millis(clock)))

/** There must be few keys: none is forgotten. */
export const makeUnsafe = <Key>(tell: Tell<Key>): Bursts<Key> => {
  const bursts = new Map<Key, { toldAt: number; since: number }>()
  return {
    note: (key) =>
      Effect.flatMap(now, (now) => {
        const last = bursts.get(key)
        if (last !== undefined && now - last.toldAt < Duration.toMillis(length)) {
          last.since++
          return Effect.void
        }
        bursts.set(key, { toldAt: now, since: 0 })
        return tell(key, 1 + (last?.since ?? 0))
      }),
    flush: Effect.flatMap(now, (now) => {
      const held = Array.from(bursts).filter(([, { since }]) => since > 0)
      for (const [key] of held) bursts.set(key, { toldAt: now, since: 0 })
      return Effect.forEach(held, ([key, { since }]) => tell(key, since), { discard: true })
    })
  }
}
