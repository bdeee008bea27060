/**
 * Tokens in Redis, encrypted, for any number of instances of a program.
 *
 * The repository's connection lives as long as its layer. The layer is built also while the server is away, and operations
 * fail with `RefreshFailed` until it is back. Nothing has to be set up in the server.
 *
 * **Details**
 *
 * A hash `<prefix>:account:<key>` is an account: its tokens, sealed by a `TokenCipher` under the account's key, and who
 * replaces them. Every operation is one script, and `TIME` of the server decides. The lock is a part of the hash: it is over
 * at its time whatever became of the holder, and what a late holder brings is thrown away. No key has a time to live.
 *
 * **Gotchas**
 *
 * What the server forgets (by a restart without persistence, or by eviction) is had again with a login, at most once for
 * each account. A lock that is forgotten lets a second refresh begin: keep `maxmemory-policy noeviction`, and
 * `appendonly yes` where a refresh token is good for one use only. Needs Redis 6 or newer, or Valkey; one primary: an older
 * server and Redis Cluster are refused, with `RefreshFailed` that says so, if the user may run `INFO`.
 *
 * Install `redis` beside Holdfast.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redis from "effect/persistence/Redis"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import * as RedisConnection from "./RedisConnection.ts"
import * as RedisServerInfo from "./internal/RedisServerInfo.ts"
import { ClientError, InvalidConfig, RefreshFailed } from "../client/ClientError.ts"
import { time } from "../client/internal/ClientSessionOptions.ts"
import * as TokenKey from "../token/internal/TokenKey.ts"
import * as TokenCipher from "../token/TokenCipher.ts"
import { Failure, TokenRepository } from "../token/TokenRepository.ts"

/** Where the tokens are, and what they are encrypted with. */
export interface Options {
  /** `redis://user:password@host:port/database`; `rediss` encrypts the way there. */
  readonly url: Redacted.Redacted
  /** The first one encrypts, all decrypt. See `TokenCipher`. */
  readonly keys: ReadonlyArray<TokenCipher.Key>
  /** Letters, digits and `_ . : -`. Default: `holdfast`. */
  readonly prefix?: string | undefined
  /** How long an operation may take, waiting for a connection included; at most 24 days. Default: 3 seconds. */
  readonly operationTimeout?: Duration.Input | undefined
  /** Shown by the server to operators. Default: `holdfast-tokens`. */
  readonly applicationName?: string | undefined
}

/**
 * An infinite moment is not written. Numbers go as text: a reply would cut them down to whole ones. With a full memory a script
 * is refused its first write if that may take more, and no later one: what ends a lock begins with a removal.
 */
const prelude = `
local key = KEYS[1]
local moment = redis.call('TIME')
local now = moment[1] * 1000 + moment[2] / 1000
local function text(number) return string.format('%.3f', number) end
local function field(name) return redis.call('HGET', key, name) or nil end
local function until_(name) local at = field(name) return at and text(tonumber(at) - now) end
local function is_over(name) local at = field(name) return at ~= nil and tonumber(at) <= now end
local version = tonumber(field('version') or '0')
local function give_back() redis.call('HDEL', key, 'owner', 'lockedAt', 'lockedUntil', 'failure', 'pausedUntil') end
`

const script = (lua: string) =>
  Redis.script((key: string, ...rest: ReadonlyArray<string>) => [key, ...rest], {
    numberOfKeys: 1,
    lua: prelude + lua
  }).withReturnType<unknown>()

const scripts = {
  get: script(`
if version == 0 then return { '0' } end
return { text(version), field('sealed'), text(now - tonumber(field('obtainedAt'))), until_('accessUntil') or 'Infinity',
  is_over('refreshUntil') and '0' or '1', field('rejected'), field('secondTry') }`),
  lock: script(`
local owner, claimed, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if version ~= claimed then return { 'Changed' } end
if field('owner') and not is_over('lockedUntil') then return { 'Busy', until_('lockedUntil') } end
if field('failure') and not is_over('pausedUntil') then return { 'Paused', until_('pausedUntil'), field('failure') } end
redis.call('HSET', key, 'owner', owner, 'lockedAt', text(now), 'lockedUntil', text(now + limit))
return { 'Locked' }`),
  put: script(`
local owner, sealed, access, is_kept, refresh = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5])
if field('owner') ~= owner then return false end
local locked_at, second_try = tonumber(field('lockedAt')), field('rejected') or '0'
give_back()
local function limit(name, millis)
  if millis == math.huge then redis.call('HDEL', key, name)
  else redis.call('HSET', key, name, text(locked_at + millis)) end
end
limit('accessUntil', access)
if not is_kept then limit('refreshUntil', refresh) end
redis.call('HSET', key, 'version', string.format('%d', version + 1), 'sealed', sealed, 'obtainedAt', text(locked_at),
  'rejected', '0', 'secondTry', second_try)
return version + 1`),
  unlock: script(`
local owner, failure, length = ARGV[1], ARGV[2], ARGV[3]
if field('owner') ~= owner then return false end
give_back()
if failure then redis.call('HSET', key, 'failure', failure, 'pausedUntil', text(now + tonumber(length))) end
return true`),
  invalidate: script(`
if version > 0 and version == tonumber(ARGV[1]) then
  redis.call('HDEL', key, 'rejected')
  redis.call('HSET', key, 'rejected', '1')
end
return true`)
}

const Flag = Schema.Literals(["0", "1"])
const Kept = Schema.Tuple([
  Schema.NumberFromString,
  Schema.String,
  Schema.NumberFromString,
  Schema.NumberFromString,
  Flag,
  Flag,
  Flag
])
const decodeKept = Schema.decodeUnknownEffect(Schema.Union([Schema.Tuple([Schema.Literal("0")]), Kept]))
const decodeAttempt = Schema.decodeUnknownEffect(
  Schema.Union([
    Schema.Tuple([Schema.Literals(["Changed", "Locked"])]),
    Schema.Tuple([Schema.Literal("Busy"), Schema.NumberFromString]),
    Schema.Tuple([Schema.Literal("Paused"), Schema.NumberFromString, Schema.String])
  ])
)
const decodeVersion = Schema.decodeUnknownEffect(Schema.NullOr(Schema.Int))
const FailureJson = Schema.fromJsonString(Schema.toCodecJson(Failure))
const encodeFailure = Schema.encodeSync(FailureJson)
const decodeFailure = Schema.decodeUnknownOption(FailureJson)

const invalid = (field: string, problem: string) => new ClientError({ reason: new InvalidConfig({ field, problem }) })

const prefixOf = ({ prefix = "holdfast" }: Options): Effect.Effect<string, ClientError> =>
  /^[A-Za-z0-9_.:-]{1,64}$/.test(prefix)
    ? Effect.succeed(prefix)
    : Effect.fail(invalid("prefix", "must be 1 to 64 letters, digits and _ . : -"))

/** The oldest that this was tried with. Before version 5 a script may not write once it has asked for the time. */
const needs: RedisServerInfo.Needs = {
  what: "tokens",
  oldest: 6,
  notInCluster: "a connection leads to one node, and the accounts lie on all of them"
}

/**
 * Makes a repository whose connection closes with the current scope. Fails with `InvalidConfig` where an option makes no
 * sense, and in no other way: also while the server is away.
 */
export const make = Effect.fnUntraced(function* (options: Options) {
  const prefix = yield* prefixOf(options)
  const cipher = yield* TokenCipher.make(options.keys)
  const problem = RedisConnection.problemOf(options.url)
  if (problem !== undefined) return yield* invalid("url", problem)
  const limit = yield* time("operationTimeout", options.operationTimeout ?? "3 seconds", {
    be: "positive",
    forTimer: true
  })
  const origin = `redis://${RedisConnection.describe(options.url)}`
  const unavailable = (problem: string) =>
    new ClientError({ reason: new RefreshFailed({ origin, problem, last: undefined }) })
  const toClientError = (error: Redis.RedisError) =>
    unavailable(`the tokens' Redis failed: ${RedisConnection.messageOf(error)}`)

  yield* Ledger.hold({ kind: "token repository", id: origin }, Effect.void, () => Effect.void)
  const redis = yield* RedisConnection.make({
    url: options.url,
    operationTimeout: limit,
    name: options.applicationName ?? "holdfast-tokens",
    accept: RedisServerInfo.accept(needs)
  }).pipe(Effect.mapError(toClientError))

  const run = (script: (typeof scripts)[keyof typeof scripts], account: string, ...args: ReadonlyArray<string>) =>
    Effect.mapError(redis.eval(script)(`${prefix}:account:${account}`, ...args), toClientError)
  const decoded = <A>(reply: Effect.Effect<A, Schema.SchemaError>) =>
    Effect.mapError(reply, () => unavailable("the tokens' Redis holds what this version cannot read"))

  const get: TokenRepository["Service"]["get"] = Effect.fnUntraced(function* (key) {
    const kept = yield* decoded(decodeKept(yield* run(scripts.get, key)))
    if (kept.length === 1) return { version: 0, access: undefined, refresh: undefined }
    const [version, sealed, ageMillis, validForMillis, isRefreshGood, isRejected, isSecondTry] = kept
    const tokens = cipher.open(key, Buffer.from(sealed, "base64"))
    if (tokens === undefined) {
      yield* LogEvent.warning({ event: "token.unreadable", key }, TokenCipher.unreadable(key))
      return { version, access: undefined, refresh: undefined }
    }
    return {
      version,
      access: {
        value: tokens.access,
        ageMillis,
        validForMillis: Math.max(validForMillis, 0),
        isRejected: isRejected === "1",
        isSecondTry: isSecondTry === "1"
      },
      refresh: isRefreshGood === "1" ? tokens.refresh : undefined
    }
  })

  const lock: TokenRepository["Service"]["lock"] = Effect.fnUntraced(function* (key, { limit, owner, version }) {
    const args = [owner, String(version), String(Duration.toMillis(limit))]
    const answer = yield* decoded(decodeAttempt(yield* run(scripts.lock, key, ...args)))
    if (answer.length === 1) return { _tag: answer[0] }
    if (answer.length === 2) return { _tag: answer[0], forMillis: answer[1] }
    const failure = Option.getOrUndefined(decodeFailure(answer[2]))
    return failure === undefined
      ? { _tag: "Busy", forMillis: answer[1] }
      : { _tag: "Paused", failure, forMillis: answer[1] }
  })

  const put: TokenRepository["Service"]["put"] = Effect.fnUntraced(function* (key, owner, { access, refresh }) {
    const sealed = cipher.seal(key, { access: access.value, refresh: refresh?.value })
    const isKept = refresh !== undefined && refresh.lifetime === undefined
    const args = [
      owner,
      Buffer.from(sealed).toString("base64"),
      millisOf(access.lifetime),
      isKept ? "1" : "0",
      millisOf(refresh?.lifetime ?? Duration.zero)
    ]
    return (yield* decoded(decodeVersion(yield* run(scripts.put, key, ...args)))) ?? undefined
  })

  return TokenKey.checked({
    get,
    lock,
    put,
    unlock: (key, owner, pause) => {
      const paused = pause === undefined ? [] : [encodeFailure(pause.failure), millisOf(pause.length)]
      return Effect.asVoid(run(scripts.unlock, key, owner, ...paused))
    },
    invalidate: (key, version) => Effect.asVoid(run(scripts.invalidate, key, String(version)))
  })
})

/** As Lua reads it. */
const millisOf = (duration: Duration.Duration): string => {
  const millis = Duration.toMillis(duration)
  return Number.isFinite(millis) ? String(millis) : "inf"
}

/** Tokens in a Redis that is there, or will be. */
export const layer = (options: Options): Layer.Layer<TokenRepository, ClientError> =>
  Layer.effect(TokenRepository, make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ url: Config.Redacted("REDIS_URL"), … })`. */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<TokenRepository, ClientError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
