/**
 * The counters of a rate limit in the memory of one process: a `RateLimiterStore` that forgets.
 *
 * A counter is kept until its window is over and no longer. Effect's own store in memory never lets go of a key, and keys
 * here are chosen by whoever sends requests.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RateLimiter from "effect/persistence/RateLimiter"

interface Counter {
  readonly count: number
  readonly expiresAt: number
}

/** Counters that are not many are not worth looking through. */
const few = 1024

/** Makes the store; `size` tells how many counters it holds. */
export const make = Effect.gen(function* () {
  const effects = yield* RateLimiter.RateLimiterStore
  const clock = yield* Clock.Clock
  const counters = new Map<string, Counter>()
  let lookAt = few

  /** Drops what is over whenever the counters have doubled since the last time. */
  const tidy = (now: number) => {
    if (counters.size < lookAt) return
    for (const [key, { expiresAt }] of counters) if (expiresAt <= now) counters.delete(key)
    lookAt = Math.max(few, counters.size * 2)
  }

  const fixedWindow: RateLimiter.RateLimiterStore["Service"]["fixedWindow"] = ({ key, limit, refillRate, tokens }) =>
    Effect.sync(() => {
      const now = clock.currentTimeMillisUnsafe()
      const known = counters.get(key)
      const counter = known === undefined || known.expiresAt <= now ? { count: 0, expiresAt: now } : known
      const count = counter.count + tokens
      if (limit !== undefined && count > limit) return [count, counter.expiresAt - now]
      const expiresAt = counter.expiresAt + Duration.toMillis(refillRate) * tokens
      if (count > 0 && expiresAt > now) {
        counters.set(key, { count, expiresAt })
        tidy(now)
      } else counters.delete(key)
      return [count, Math.max(expiresAt - now, 0)]
    })

  return { store: RateLimiter.RateLimiterStore.of({ ...effects, fixedWindow }), size: () => counters.size }
}).pipe(Effect.provide(RateLimiter.layerStoreMemory))

/** The store, for the `RateLimiter`. */
export const layer: Layer.Layer<RateLimiter.RateLimiterStore> = Layer.effect(
  RateLimiter.RateLimiterStore,
  Effect.map(make, ({ store }) => store)
)
