/**
 * Sessions in Redis or Valkey, for any number of instances of a program.
 *
 * The store's connections live as long as its layer. The layer is built also while the server is away, and operations
 * fail with `SessionsUnavailable` until it is back. There is nothing to migrate.
 *
 * **Details**
 *
 * One primary, with replicas, Sentinel or a managed service if you like. Every operation is one script, so nothing can come
 * between its reading and its writing, and the server's clock decides everything. Loads of concurrent requests travel
 * together. One more connection listens for the ends of sessions.
 *
 * An operation that is interrupted goes on in the background, within the same time limit.
 *
 * Whenever the server is reached anew it is looked at before anything else is asked of it: what puts sessions at risk
 * (eviction, nothing on the disk) is logged with what to do, or refused, see {@link Options.onUnsafe}.
 *
 * **Gotchas**
 *
 * What was answered may be undone by a crash or a failover, which replication without waiting cannot prevent: see
 * `SessionStore.Capabilities`.
 *
 * Sessions that an older version wrote are brought into this one's form where they are met, and by pruning. An instance of
 * that version that still runs beside cannot read what this one wrote, and says that sessions are unavailable. Nobody is
 * logged out by that; so replace the instances quickly.
 *
 * Needs Redis 7 or newer, or Valkey. Redis Cluster is refused: one step reads a token, its
 * session and the sessions of the same principal, which lie on different nodes there.
 *
 * Install `redis` beside Holdfast.
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { randomBytes } from "node:crypto"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as RedisConnection from "./RedisConnection.ts"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import * as Timers from "../lifetime/internal/Timers.ts"
import * as TimeLimit from "../lifetime/TimeLimit.ts"
import * as RedisSessionEnds from "./internal/RedisSessionEnds.ts"
import * as RedisSessionLoads from "./internal/RedisSessionLoads.ts"
import { channelOf } from "./internal/RedisSessionLua.ts"
import * as RedisSessionReply from "./internal/RedisSessionReply.ts"
import { RedisClock } from "./internal/RedisClock.ts"
import * as RedisSessionScripts from "./internal/RedisSessionScripts.ts"
import * as RedisSessionServer from "./internal/RedisSessionServer.ts"
import * as SessionMemory from "../session/internal/SessionMemory.ts"
import { noPlace } from "../session/internal/SessionPages.ts"
import * as SessionCipher from "../session/SessionCipher.ts"
import * as SessionId from "../session/SessionId.ts"
import { principalOf, type SessionRecord } from "../session/SessionRecord.ts"
import {
  type Authentication,
  type Expiry,
  type Limits,
  type NewSession,
  type Renewal,
  type Rotation,
  SessionStore,
  type Update,
  type VisitorsAfter
} from "../session/SessionStore.ts"
import * as SessionPruning from "../session/SessionPruning.ts"
import * as SessionTimes from "../session/SessionTimes.ts"
import type { TokenHash } from "../session/SessionToken.ts"

/** Where the sessions are. */
export interface Options {
  /** `redis://user:password@host:port/database`, or `rediss://` for TLS. */
  readonly url: Redacted.Redacted<string>
  /** In front of every key and of the channel: letters, digits, `_`, `.` and `-`. Default: `holdfast`. */
  readonly prefix?: string | undefined
  /** How long an operation may take, waiting for a connection included; at most 24 days. Default: 3 seconds. */
  readonly operationTimeout?: Duration.Input | undefined
  /** How often the connection that listens is asked whether it is there. Default: 4 seconds. */
  readonly listenerCheck?: Duration.Input | undefined
  /**
   * What to do on a server that may lose sessions: say so in the log, or fail every operation until it is set up. Default:
   * `warn`.
   */
  readonly onUnsafe?: "warn" | "refuse" | undefined
  /**
   * Room for sessions that were loaded lately, so that their next load fetches only whether they changed. Each load asks the
   * server, whatever is remembered. Default: 16 MiB; 0 for none.
   */
  readonly rememberedBytes?: number | undefined
  /**
   * What the data of sessions is encrypted with: the first one encrypts, all decrypt, see `SessionCipher`. Keys that make no sense
   * are a defect when the store is made. Default: none, the data is stored as it is.
   */
  readonly keys?: ReadonlyArray<SessionCipher.Key> | undefined
  /** How sessions that are over are pruned; `false` where another program does it. Default: every minute. */
  readonly pruning?: SessionPruning.Options | false | undefined
  /** Shown by the server to operators. Default: `holdfast-sessions`. */
  readonly applicationName?: string | undefined
}

/** How many batches of loads may be under way: one is being answered while the next is on its way. */
const concurrency = 4
/** How many sessions one script looks at, so that it holds up the others for less than a millisecond or so. */
const largest = 100

const prefixOf = (options: Options): Effect.Effect<string> => {
  const prefix = options.prefix ?? "holdfast"
  return /^[A-Za-z0-9_.-]{1,64}$/.test(prefix)
    ? Effect.succeed(prefix)
    : Effect.die(new TypeError("The prefix of the sessions' keys must be letters, digits, _, . and -"))
}

const nonce = () => randomBytes(32).toString("base64url")
/** No part of a moment's number is lost, and it stays one that a date can have. */
const longest = 4e15
const millis = (duration: Duration.Duration) => String(Math.min(Math.ceil(Duration.toMillis(duration)), longest))
const chunks = <A>(all: ReadonlyArray<A>) =>
  Array.from({ length: Math.ceil(all.length / largest) }, (_, index) =>
    all.slice(index * largest, (index + 1) * largest)
  )

/** The times by which a session lives. */
const expiryOf = ({ absoluteTimeout, idleTimeout }: Pick<Limits, "absoluteTimeout" | "idleTimeout">) => [
  millis(idleTimeout),
  millis(SessionTimes.touchInterval(idleTimeout)),
  millis(absoluteTimeout)
]
/** What the scripts take of limits: four times, the other sessions that may stay, and behind them hash and epoch. */
const limitsOf = (limits: Limits) => [
  ...expiryOf(limits),
  millis(limits.renewEvery),
  String(Math.max(limits.maxPerPrincipal - 1, 0))
]
/** Where visitors are looked for from the beginning, and what a place that the script told looks like. */
const beginning = "0."
const isPlace = (text: string) => /^\d{1,15}\.(?:[0-9a-f]{32})?$/.test(text)
const epochOf = ({ epoch }: Limits) => (epoch === undefined ? "" : String(epoch))

/**
 * What the store's user needs to be allowed, as arguments of `ACL SETUSER`. `INFO` and `CONFIG GET` are for looking whether the
 * server may lose sessions; without them the store works and says that it could not look. `HMGET` is for sessions that an
 * older version wrote.
 */
export const permissions = (prefix: string): ReadonlyArray<string> => [
  "resetkeys",
  `~${prefix}:*`,
  "resetchannels",
  `&${channelOf(prefix)}`,
  "-@all",
  ..."hello auth ping client|setname select subscribe unsubscribe publish info config|get"
    .split(" ")
    .map((name) => `+${name}`),
  ..."script|load evalsha time exists del get getrange set hmget".split(" ").map((name) => `+${name}`),
  ..."zadd zrem zcard zcount zscore zrange zrangebyscore".split(" ").map((name) => `+${name}`)
]

/** Makes a store whose connections close with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const prefix = yield* prefixOf(options)
  const cipher = yield* Effect.orDie(SessionCipher.make(options.keys))
  const scripts = RedisSessionScripts.make(prefix, yield* RedisClock)
  const { listenerCheck, operationTimeout = "3 seconds", url } = options
  const limit = Timers.clamp(Duration.fromInputUnsafe(operationTimeout))
  const connection = yield* Effect.orDie(
    RedisConnection.make({
      url,
      operationTimeout: limit,
      listenerCheck,
      name: options.applicationName ?? "holdfast-sessions",
      accept: RedisSessionServer.make({ onUnsafe: options.onUnsafe ?? "warn" })
    })
  )
  const ended = yield* RedisSessionEnds.make({ connection, channel: channelOf(prefix) })
  const within = yield* TimeLimit.make(limit, (limit) =>
    RedisSessionReply.unavailable(new Error(`No answer within ${limit}`))
  )

  const sent = (script: RedisSessionScripts.Script, parameters: ReadonlyArray<string>) =>
    Effect.mapError(connection.eval(script)(...parameters), RedisSessionReply.failed)
  const run = (script: RedisSessionScripts.Script, ...parameters: ReadonlyArray<string>) =>
    within(sent(script, parameters))

  const clock = yield* Clock.Clock
  const load = yield* RedisSessionLoads.make({
    concurrency,
    within,
    load: (tokens) => Effect.flatMap(sent(scripts.load, [nonce(), ...tokens]), RedisSessionReply.rows(tokens.length)),
    confirm: (ids) => {
      const read = RedisSessionReply.answers(ids.length + 1)
      return Effect.flatMap(sent(scripts.confirm, ids.map(RedisSessionReply.short)), read)
    },
    open: cipher.open,
    memory: SessionMemory.make(options.rememberedBytes ?? 16 * 1024 * 1024, () => SteadyClock.millis(clock))
  })

  /** A login, once all those who had to make room did. */
  const login = Effect.fnUntraced(function* (script: RedisSessionScripts.Script, parameters: ReadonlyArray<string>) {
    const made: Array<SessionId.SessionId> = []
    for (;;) {
      const { displaced, record } = yield* Effect.flatMap(sent(script, parameters), (reply) =>
        RedisSessionReply.login(reply, cipher.open)
      )
      made.push(...displaced)
      if (record !== undefined) return { record, displaced: made }
    }
  })

  const record = (reply: unknown) => Effect.fromResult(RedisSessionReply.only(reply, cipher.open))

  const create = Effect.fn("RedisSessionStore.create")(function* (session: NewSession) {
    const principal = session.principal === null ? "" : yield* principalOf(session.principal)
    const actor = session.actor === undefined ? "" : yield* principalOf(session.actor)
    const id = SessionId.make()
    const parameters = [
      RedisSessionReply.short(id),
      principal,
      cipher.seal(id, JSON.stringify(session.data)),
      String(session.dataVersion),
      JSON.stringify(session.device),
      ...limitsOf(session),
      session.token,
      epochOf(session),
      session.instead ?? "",
      actor
    ]
    return yield* within(login(scripts.create, parameters))
  })

  /** For the session of a token, which is the token's for ever while it lives. Where there is none, nothing is written. */
  const sealed = (token: TokenHash, json: string) =>
    options.keys === undefined || options.keys.length === 0
      ? Effect.succeed(json)
      : run(scripts.look, token).pipe(
          Effect.map((reply) => cipher.seal(RedisSessionReply.sessionOf(reply) ?? "", json))
        )

  const authenticate = Effect.fn("RedisSessionStore.authenticate")(function* (authentication: Authentication) {
    const { data, device, next, token } = authentication
    const principal = yield* principalOf(authentication.principal)
    const parameters = [
      token,
      principal,
      data === undefined ? "" : yield* sealed(token, JSON.stringify(data.value)),
      data === undefined ? "" : String(data.version),
      JSON.stringify(device),
      ...limitsOf(authentication),
      next,
      epochOf(authentication)
    ]
    return yield* within(login(scripts.authenticate, parameters))
  })

  const touch = Effect.fn("RedisSessionStore.touch")(function* (token: TokenHash) {
    yield* Effect.fromResult(RedisSessionReply.live(yield* run(scripts.touch, token)))
  })

  const renew = Effect.fn("RedisSessionStore.renew")(function* ({ next, token }: Renewal) {
    return yield* record(yield* run(scripts.renew, token, next))
  })

  const rotate = Effect.fn("RedisSessionStore.rotate")(function* ({ next, token }: Rotation) {
    return yield* record(yield* run(scripts.rotate, token, next))
  })

  const setExpiry = Effect.fn("RedisSessionStore.setExpiry")(function* ({ id, ...times }: Expiry) {
    return yield* record(yield* run(scripts.setExpiry, RedisSessionReply.short(id), ...expiryOf(times)))
  })

  const update = Effect.fn("RedisSessionStore.update")(function* ({ data, dataVersion, id, version }: Update) {
    return yield* record(
      yield* run(
        scripts.update,
        RedisSessionReply.short(id),
        String(version),
        cipher.seal(id, JSON.stringify(data)),
        String(dataVersion)
      )
    )
  })

  // A script at a time, so that nobody waits for the end of ten thousand. The first begins the epoch, which refuses logins that
  // are under way, and says which sessions are meant: what is created from then on is spared.
  const endAll = Effect.fnUntraced(function* (principal: string, spared: string) {
    const ended: Array<SessionId.SessionId> = []
    for (let from = ""; ;) {
      const reply = yield* sent(scripts.revokeAll, [principal, spared, from])
      const [upto, ids, more] = yield* RedisSessionReply.revokedSome(reply)
      ended.push(...ids)
      if (more === 0) return ended
      from = upto
    }
  })
  const revokeAll: SessionStore["Service"]["revokeAll"] = Effect.fn("RedisSessionStore.revokeAll")(
    function* (principal, options) {
      return yield* within(
        endAll(yield* principalOf(principal), options?.except ? RedisSessionReply.short(options.except) : "")
      )
    }
  )

  /** For each of these sessions what the script says of it, in scripts that are short. */
  const ofEach = (script: RedisSessionScripts.Script, ids: ReadonlyArray<string>) =>
    within(
      Effect.map(
        // While one is answered, the next is on its way and the one before is read.
        Effect.forEach(
          chunks(ids),
          (chunk) => Effect.flatMap(sent(script, chunk), RedisSessionReply.rows(chunk.length)),
          { concurrency: 3 }
        ),
        (answers) => answers.flat()
      )
    )

  /** The sessions in these answers that live and can be read. */
  const readable = Effect.fnUntraced(function* (rows: ReadonlyArray<RedisSessionReply.Row>) {
    const records: Array<SessionRecord> = []
    for (const row of rows) {
      const read = RedisSessionReply.listed(row, cipher.open)
      if (read === undefined) continue
      if (Result.isSuccess(read)) records.push(read.success)
      else
        yield* LogEvent.warning({ event: "session.unlisted" }, "A session was left out of a list", read.failure.message)
    }
    return records
  })

  const list = Effect.fn("RedisSessionStore.list")(function* (principal: string) {
    const name = yield* principalOf(principal)
    const ids = yield* RedisSessionReply.shortIds(yield* run(scripts.ids, name))
    const records = yield* readable(yield* ofEach(scripts.sessions, ids))
    // One that is another's by now was only just taken over.
    return records.filter((record) => record.principal === name)
  })

  // So many scripts as would do if each looked at as many as it may: a page can be short.
  const look = Effect.fnUntraced(function* (after: string, limit: number) {
    const answers: Array<RedisSessionReply.Row> = []
    let next = after
    for (let left = limit; left > 0 && (left === limit || next !== ""); left -= largest) {
      const reply = yield* sent(scripts.visitors, [next, String(Math.min(left, largest))])
      const [place, more] = yield* RedisSessionReply.visitors(reply)
      answers.push(...more)
      next = place
    }
    return { answers, next }
  })
  const visitors = Effect.fn("RedisSessionStore.visitors")(function* ({ after = beginning, limit }: VisitorsAfter) {
    if (!isPlace(after)) return yield* noPlace
    const { answers, next } = yield* within(look(after, limit))
    return { sessions: yield* readable(answers), next: next === "" ? undefined : next }
  })

  return SessionStore.of({
    capabilities: {
      sharedBy: "instances",
      afterCrash: "as configured",
      afterFailover: "may be undone",
      eviction: "as configured"
    },
    create,
    load,
    touch,
    update,
    renew,
    rotate,
    setExpiry,
    visitors,
    authenticate,
    revoke: (id) => Effect.flatMap(run(scripts.revoke, RedisSessionReply.short(id)), RedisSessionReply.isDone),
    revokeAll,
    epoch: (principal) =>
      principalOf(principal).pipe(
        Effect.flatMap((name) => run(scripts.epoch, name)),
        Effect.flatMap(RedisSessionReply.epoch)
      ),
    list,
    endedOf: (ids) =>
      Effect.map(ofEach(scripts.states, ids.map(RedisSessionReply.short)), (states) =>
        ids.filter((_, index) => RedisSessionReply.isOver(states[index] ?? []))
      ),
    ended,
    prune: (limit) =>
      Effect.flatMap(Effect.timed(run(scripts.prune, String(limit))), ([way, reply]) =>
        RedisSessionReply.pruned(reply, way)
      ),
    pruneLag: Effect.flatMap(run(scripts.pruneLag), RedisSessionReply.lag),
    ping: Effect.flatMap(run(scripts.ping), RedisSessionReply.momentOf)
  })
})

/** Sessions on a server that is, or will be, there; what is over for a day is pruned. */
export const layer = (options: Options): Layer.Layer<SessionStore> =>
  SessionPruning.withStore(Layer.effect(SessionStore, make(options)), options.pruning)

/** As {@link layer}, from wrapped configuration: `layerConfig({ url: Config.Redacted("REDIS_URL") })`. */
export const layerConfig = (config: Config.Wrap<Options>): Layer.Layer<SessionStore, Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
