/**
 * Failures counted in Redis, together by all instances of the service.
 *
 * The connection lives as long as the layer, which is built also while the server is away: then nothing can be counted, and
 * `FailuresUnavailable` says so. A counter lives in the server until its window is over.
 *
 * **Details**
 *
 * A counter is a sorted set, `<prefix>:failures:<hash of its key>`, of attempts by the moment from which they count. Every
 * operation is one script, by `TIME` of the server, so the limit holds over all instances, exactly. An attempt whose
 * process died before it told the end counts from its beginning.
 */
import { createHash, randomUUID } from "node:crypto"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as RedisConnection from "../RedisConnection.ts"
import * as FailureCounts from "./FailureCounts.ts"

export interface Options {
  readonly url: Redacted.Redacted
  /** In front of every key. Default: `holdfast`. */
  readonly prefix?: string | undefined
  /** Default: that of `FailureCounts`. */
  readonly window?: Duration.Duration | undefined
}

const prelude = `
local moment = redis.call('TIME')
local now = moment[1] * 1000000 + moment[2]
local window, id = tonumber(ARGV[1]), ARGV[2]
local function text(number) return string.format('%.0f', number) end
local function count()
  for _, key in ipairs(KEYS) do
    redis.call('ZADD', key, text(now), id)
    redis.call('PEXPIRE', key, text(math.ceil(window / 1000)))
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
  /** Without an id nothing is counted. Tells in microseconds how long one has to wait. */
  begin: script(`
local longest
for index, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now - window))
  if redis.call('ZCARD', key) >= tonumber(ARGV[2 + index]) then
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
for _, key in ipairs(KEYS) do redis.call('ZREM', key, id) end
return false`)
}

const decodeWait = Schema.decodeUnknownEffect(Schema.NullOr(Schema.NumberFromString))

/** Makes counters whose connection closes with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const redis = yield* RedisConnection.make({ url: options.url, name: "holdfast-logins" }).pipe(Effect.orDie)
  const micros = String(Math.ceil(Duration.toMillis(options.window ?? FailureCounts.window) * 1000))
  // Whoever reads the keys learns no names.
  const keysOf = (limits: ReadonlyArray<FailureCounts.Limit>) =>
    limits.map(({ key }) => {
      const hash = createHash("sha256").update(key).digest("base64url")
      return `${options.prefix ?? "holdfast"}:failures:${hash}`
    })
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
