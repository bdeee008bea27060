/**
 * How many sessions of a `RedisSessionStore` live, in one script that holds the server up for some milliseconds.
 *
 * **Details**
 *
 * Up to {@link most} blocks of 64 sessions are asked how many of theirs were not ended and are not too old, and of up to
 * {@link looked} of these it is looked whether they were idle for too long. Of fewer the count is exact; of more the rest is taken to be like
 * them. Sessions that an older version wrote and nobody used since are not counted.
 */
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as RedisConnection from "../RedisConnection.ts"
import { RedisClock } from "./RedisClock.ts"
import * as RedisSessionScripts from "./RedisSessionScripts.ts"

const most = 256
const looked = 250

/** Which store, and how much of it is looked at. */
export interface Options {
  readonly url: Redacted.Redacted<string>
  /** Default: `holdfast`. */
  readonly prefix?: string | undefined
  readonly blocks?: number | undefined
  readonly sessions?: number | undefined
}

const Reply = Schema.Tuple([
  Schema.NumberFromString,
  Schema.NumberFromString,
  Schema.NumberFromString,
  Schema.NumberFromString,
  Schema.NumberFromString
])

/** Makes what reads the count, over a connection that closes with the current scope. */
export const make = Effect.fnUntraced(function* ({
  blocks = most,
  prefix = "holdfast",
  sessions = looked,
  url
}: Options) {
  const redis = yield* Effect.orDie(RedisConnection.make({ url, name: "holdfast-count" }))
  const script = redis.eval(RedisSessionScripts.make(prefix, yield* RedisClock).count)
  return Effect.suspend(() => script(String(blocks), String(sessions), String(Math.random()))).pipe(
    Effect.flatMap(Schema.decodeUnknownEffect(Reply)),
    Effect.map(([live, seen, left, chosen, total]) =>
      seen === 0 ? 0 : Math.round((live / seen) * left * (total / chosen))
    )
  )
})
