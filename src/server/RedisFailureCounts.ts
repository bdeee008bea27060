/**
 * Failures counted in Redis, together by all instances of the service.
 *
 * The connection lives as long as the layer, which is built also while the server is away: then nothing can be counted, and
 * `FailuresUnavailable` says so. A counter lives in the server until its window is over and somebody tries or asks again.
 *
 * **Details**
 *
 * A counter is a sorted set, `<prefix>:failures:<hash of its key>`, of attempts by the moment from which they count, and
 * `<prefix>:failures` is one of the counters by the last of these moments. Every operation is one script, by `TIME` of the
 * server, so the limit holds over all instances, exactly. An attempt whose process died before it told the end counts from
 * its beginning.
 *
 * No key has a time to live: under a `volatile-` policy the server would evict the counters first, and an attacker who fills its
 * memory could try again. So each attempt takes away some counters whose window is over, more than it adds.
 *
 * **Gotchas**
 *
 * Under `maxmemory-policy allkeys-…` counters may be evicted; keep `noeviction`, which sessions need as well. The scripts run
 * from Redis 6 on, or in Valkey; the sessions beside them need Redis 7.
 */
import { createHash, randomUUID } from "node:crypto"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as RedisConnection from "../redis/RedisConnection.ts"
import * as FailureCounts from "./FailureCounts.ts"

export interface Options {
  readonly url: Redacted.Redacted
  /** In front of every key. Default: `holdfast`. */
  readonly prefix?: string | undefined
  /** Default: 5 minutes. */
  readonly window?: Duration.Duration | undefined
}

/** Counters that an attempt takes away. It adds one or two. */
const forgotten = 10

const prelude = `
local moment = redis.call('TIME')
local now = moment[1] * 1000000 + moment[2]
local window, id = tonumber(ARGV[1]), ARGV[2]
local function text(number) return string.format('%.0f', number) end
local counters, index = { unpack(KEYS, 1, #KEYS - 1) }, KEYS[#KEYS]
local function count()
  for _, key in ipairs(counters) do
    redis.call('ZADD', key, text(now), id)
    redis.call('ZADD', index, text(now), key)
  end
end
`

type Parameters = readonly [keys: ReadonlyArray<string>, ...rest: ReadonlyArray<string>]

const script = (lua: string) =>
  Redis.script((...[keys, ...rest]: Parameters) => [...keys, ...rest], {
    numberOfKeys: (...[keys]: Parameters) => keys.length,
    lua: prelude + lua
  }).withReturnType<unknown>()

const scripts = {
  /**
   * Without an id nothing is counted. Tells in microseconds how long one has to wait. With a full memory a script is refused its
   * first write if that takes more, and no later one: it begins with a removal.
   */
  begin: script(`
for _, key in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', text(now - window), 'LIMIT', 0, ${forgotten})) do
  redis.call('DEL', key)
  redis.call('ZREM', index, key)
end
local longest
for place, key in ipairs(counters) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now - window))
  if redis.call('ZCARD', key) >= tonumber(ARGV[2 + place]) then
    local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
    longest = math.max(longest or 0, oldest and oldest + window - now or window)
  end
end
if longest then return text(longest) end
if id ~= '' then count() end
return false`),
  failed: script(`
count()
return false`),
  takeOff: script(`
for _, key in ipairs(counters) do redis.call('ZREM', key, id) end
return false`)
}

const decodeWait = Schema.decodeUnknownEffect(Schema.NullOr(Schema.NumberFromString))

/** Makes counters whose connection closes with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const redis = yield* RedisConnection.make({ url: options.url, name: "holdfast-logins" }).pipe(Effect.orDie)
  const micros = String(Math.ceil(Duration.toMillis(options.window ?? FailureCounts.window) * 1000))
  const index = `${options.prefix ?? "holdfast"}:failures`
  // A reader of the keys learns no names.
  const keysOf = (limits: ReadonlyArray<FailureCounts.Limit>) => [
    ...limits.map(({ key }) => `${index}:${createHash("sha256").update(key).digest("base64url")}`),
    index
  ]
  const run = (
    script: (typeof scripts)[keyof typeof scripts],
    limits: ReadonlyArray<FailureCounts.Limit>,
    ...args: ReadonlyArray<string>
  ) => redis.eval(script)(keysOf(limits), micros, ...args)

  const begin = (limits: ReadonlyArray<FailureCounts.Limit>, id: string) =>
    run(scripts.begin, limits, id, ...limits.map(({ most }) => String(most))).pipe(
      Effect.flatMap(decodeWait),
      Effect.mapBoth({
        onFailure: (cause) => new FailureCounts.FailuresUnavailable({ cause }),
        onSuccess: (wait) => (wait === null ? undefined : Duration.millis(wait / 1000))
      })
    )
  // It counts from its beginning, whether this is heard or not.
  const told = (
    script: (typeof scripts)[keyof typeof scripts],
    limits: ReadonlyArray<FailureCounts.Limit>,
    id: string
  ) => Effect.ignore(run(script, limits, id))

  return FailureCounts.FailureCounts.of({
    wait: (limits) => begin(limits, ""),
    begin: (limits) =>
      Effect.suspend(() => {
        const id = randomUUID()
        return Effect.map(
          begin(limits, id),
          (wait) => wait ?? { failed: told(scripts.failed, limits, id), takeOff: told(scripts.takeOff, limits, id) }
        )
      })
  })
})

export const layer = (options: Options): Layer.Layer<FailureCounts.FailureCounts> =>
  Layer.effect(FailureCounts.FailureCounts, make(options))
