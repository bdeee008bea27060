/**
 * A connection to Redis (or Valkey) for a program that outlives many of them.
 *
 * It lives as long as the scope it was made in, and is built also while the server is away: it connects in the background,
 * again whenever the connection is lost, for ever, with waits of at most a second. Closing the scope closes the sockets at
 * once, whatever the server does.
 *
 * **Details**
 *
 * A command is answered, or fails with a `RedisError`, within the operation timeout: at once while the server is known to be
 * away, and otherwise after the connect or the answer that it waits for. A command that failed is not sent later: nothing is
 * queued for a connection to come. What was on the wire when it was given up may have taken effect. Interrupting a caller
 * stops neither the command nor the connection.
 *
 * A connection that does not answer a command or a `PING` in time is taken for dead and replaced, with the subscriptions
 * beside it, and so is one whose server turned out to be a replica (`READONLY`): after a failover the address may lead to another. Scripts are loaded anew on each.
 *
 * Errors carry what the server or the system said, and neither arguments nor the password. The protocol is RESP 2 with
 * every version of the driver: lists, texts and numbers.
 *
 * **Gotchas**
 *
 * One primary: a server of Redis Cluster answers `MOVED`, and that is an error here.
 *
 * Install `redis` beside Holdfast.
 */
import * as NodeRedis from "@effect/platform-node/NodeRedis"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Ledger from "../lifetime/Ledger.ts"
import * as Outages from "../lifetime/internal/Outages.ts"
import * as Timers from "../lifetime/internal/Timers.ts"
import * as TimeLimit from "../lifetime/TimeLimit.ts"
import * as SocketCut from "./internal/SocketCut.ts"

/** Where the server is, and how long it may take. */
export interface Options {
  /** `redis://user:password@host:port/database`; `rediss` encrypts. */
  readonly url: Redacted.Redacted
  /** How long a command may take, waiting for a connection included; at most 24 days. Default: 3 seconds. */
  readonly operationTimeout?: Duration.Input | undefined
  /** How often a subscription is asked whether it is there. Default: 4 seconds. */
  readonly listenerCheck?: Duration.Input | undefined
  /** Shown by the server to operators, in `CLIENT LIST`. Default: `holdfast`. */
  readonly name?: string | undefined
  /**
   * Judges the server on each new connection for commands, before anything else is asked of it: it may be another one. A
   * subscription's own connection is not judged. One that it fails is as good as away, and is judged again with the next
   * attempt, within a second or so. Default: every server will do.
   */
  readonly accept?: ((redis: Pick<RedisConnection, "send">) => Effect.Effect<void, Redis.RedisError>) | undefined
}

/**
 * What a subscription hears: `There` each time the server confirmed it, after which every message arrives, in order, until
 * it is `Lost`. What was published in between is not heard.
 */
export type Heard =
  { readonly _tag: "There" } | { readonly _tag: "Lost" } | { readonly _tag: "Message"; readonly text: string }

export interface RedisConnection {
  readonly send: Redis.Redis["Service"]["send"]
  readonly eval: Redis.Redis["Service"]["eval"]
  /**
   * Subscribes to a channel, again whenever that is lost, until it is interrupted. What is heard is handed over one by one;
   * the connection is asked now and then whether it is there, and replaced when it does not answer.
   */
  readonly listen: (channel: string, hear: (heard: Heard) => Effect.Effect<void>) => Effect.Effect<never>
}

/** Between attempts, in milliseconds, give or take a fifth. */
const shortestWait = 50
const longestWait = 1000

/** A connection that answers nothing is found out by asking it this often. */
const checkInterval = Duration.seconds(1)

/** Names the server; holds no secret. */
export const describe = (url: Redacted.Redacted): string => {
  const parsed = URL.parse(Redacted.value(url))
  return parsed === null ? "redis" : `${parsed.host}${parsed.pathname === "/" ? "" : parsed.pathname}`
}

/** What is wrong with a URL, without repeating it; `undefined`: nothing. */
export const problemOf = (url: Redacted.Redacted): string | undefined => {
  const parsed = URL.parse(Redacted.value(url))
  const isRedis = parsed !== null && (parsed.protocol === "redis:" || parsed.protocol === "rediss:")
  if (!isRedis || parsed.hostname === "") return "must be a URL such as redis://user:password@host:6379"
  if (parsed.port === "0") return "must have a port from 1 to 65535"
  if (parsed.search !== "" || parsed.hash !== "")
    return "must end with the number of its database: nothing behind a ? or # is read"
  if (!/^\/?\d*$/.test(parsed.pathname)) return "must name its database by number, such as redis://host:6379/1"
  try {
    decodeURIComponent(parsed.username + parsed.password)
  } catch {
    return "must have special characters of the user name and password percent-encoded"
  }
  return undefined
}

const failed = (message: string) => new Redis.RedisError({ cause: new Error(message) })

/** What was said, in a line. A server that does not know a command repeats its arguments. */
const say = (error: unknown): string => {
  const cause = error instanceof Redis.RedisError ? error.cause : error
  const message = cause instanceof Error ? cause.message || cause.name : String(cause)
  const code = cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : ""
  const line = (message.split("\n")[0] ?? "").replace(/,? with args beginning with.*$/, "")
  return line.includes(code) ? line : `${code}: ${line}`
}

/** The message of an error of here, for errors that are shown. */
export const messageOf = (error: Redis.RedisError): string => say(error)

const toRedisError = (error: unknown) => failed(say(error))

/** One connection, from its beginning to its end. */
interface Attempt {
  readonly redis: Redis.Redis["Service"]
  readonly client: NodeRedis.NodeRedis["Service"]["client"]
  /** Fails when it is lost, or was found to be of no use. */
  readonly over: Deferred.Deferred<never, Redis.RedisError>
}

/** Waits longer each time, up to a second, give or take a fifth. */
const wait = (failures: number) => {
  const millis = Math.min(shortestWait * 2 ** failures, longestWait)
  return Effect.flatMap(Random.nextBetween(millis * 0.8, millis * 1.2), (millis) => Effect.sleep(millis))
}

/**
 * Makes a connection that closes with the current scope. Fails where the URL makes no sense, see {@link problemOf}, and in no
 * other way: also while the server is away.
 */
export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<RedisConnection, Redis.RedisError, Scope.Scope> {
  const { url } = options
  const problem = problemOf(url)
  if (problem !== undefined) return yield* failed(`The URL of Redis ${problem}.`)
  const id = describe(url)
  const name = options.name ?? "holdfast"
  const outage = (yield* Outages.Outages).source({
    name: `Redis at ${id}`,
    where: `redis ${id}`,
    source: name
  })
  const limit = Timers.clamp(Duration.fromInputUnsafe(options.operationTimeout ?? "3 seconds"))
  const millis = Duration.toMillis(limit)
  const late = (limit: string) => failed(`Redis did not answer within ${limit}`)
  const silent = late(Duration.format(limit))
  const within = yield* TimeLimit.make(limit, late)
  const listenerCheck = Duration.fromInputUnsafe(options.listenerCheck ?? "4 seconds")
  const inTime = <A>(work: Effect.Effect<A, Redis.RedisError>) =>
    Effect.timeoutOrElse(work, { duration: limit, orElse: () => Effect.fail(silent) })
  const ask = <A>(work: () => Promise<A>) =>
    Effect.tryPromise({ try: work, catch: (cause) => new Redis.RedisError({ cause }) })

  const driver = {
    url: Redacted.value(url),
    RESP: 2 as const,
    name,
    disableOfflineQueue: true,
    // Takes back what is not on the wire yet.
    commandOptions: { timeout: millis }
  }

  // The driver's own attempts to connect again cannot be bounded one by one, and closing it waits for answers that may never
  // come. So it connects once, and what ends that is that the socket is cut.
  const connect = Effect.gen(function* () {
    const scope = yield* Ledger.hold({ kind: "redis connection", id }, Scope.make(), Scope.close)
    const cut = SocketCut.make()
    const socket = { signal: cut.signal, reconnectStrategy: false as const, connectTimeout: millis }
    // It must be over before its scope closes, or it would go on and nobody would end it.
    const building = yield* Effect.acquireRelease(
      Layer.buildWithScope(Layer.fresh(NodeRedis.layer({ ...driver, socket })), scope).pipe(
        // What the driver warns of is said here, once.
        Effect.provideService(References.MinimumLogLevel, "None"),
        Effect.uninterruptible,
        Effect.forkDetach({ startImmediately: true })
      ),
      (building) => Effect.andThen(cutting(cut), Fiber.await(building))
    )
    const context = yield* inTime(Fiber.join(building))
    const { client } = Context.get(context, NodeRedis.NodeRedis)
    yield* Effect.addFinalizer(() => Effect.andThen(cutting(cut), destroying(client)))
    const over = yield* Deferred.make<never, Redis.RedisError>()
    client.on("error", (cause) => {
      if (!client.isOpen) Deferred.doneUnsafe(over, Effect.fail(new Redis.RedisError({ cause })))
    })
    if (!client.isOpen) yield* Deferred.fail(over, failed("The connection was closed"))
    const redis = Context.get(context, Redis.Redis)
    if (options.accept !== undefined) yield* inTime(options.accept(redis))
    return { redis, client, over } satisfies Attempt
  })

  const tellOutage = (cause: Cause.Cause<unknown>) =>
    Cause.hasInterruptsOnly(cause) ? Effect.void : outage.failed(say(Cause.squash(cause)))

  /** The first attempt since there was a connection. */
  let first = Deferred.makeUnsafe<Attempt, Redis.RedisError>()
  /** The connection, or the one that is being made, or why there is none. */
  let current = Deferred.await(first)
  /** How often it was in vain since there was a connection that proved good. */
  let failures = 0

  const live = Effect.gen(function* () {
    const attempt = yield* Effect.onError(connect, (cause) =>
      Effect.andThen(
        // Before anybody is told that there is none.
        tellOutage(cause),
        Effect.sync(() => {
          current = Effect.fail(toRedisError(Cause.squash(cause)))
          Deferred.doneUnsafe(first, current)
        })
      )
    )
    current = Effect.succeed(attempt)
    Deferred.doneUnsafe(first, current)
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        first = Deferred.makeUnsafe()
        current = Deferred.await(first)
      })
    )
    const check = Effect.gen(function* () {
      yield* Effect.sleep(checkInterval)
      yield* inTime(attempt.redis.send("PING"))
      yield* outage.recovered
      failures = 0
    })
    return yield* Effect.raceFirst(Deferred.await(attempt.over), Effect.forever(check))
  }).pipe(Effect.scoped)

  const again = Effect.gen(function* () {
    const exit = yield* Effect.exit(live)
    if (Exit.isFailure(exit)) yield* tellOutage(exit.cause)
    yield* wait(failures++)
  })
  yield* Effect.forkScoped(Effect.forever(again))

  const use = <A>(work: (redis: Redis.Redis["Service"]) => Effect.Effect<A, Redis.RedisError>) =>
    within(
      Effect.flatMap(
        Effect.suspend(() => current),
        ({ over, redis }) =>
          work(redis).pipe(
            Effect.catch((error) => {
              const mapped = toRedisError(error)
              // Another server may be the primary by now, and the address lead to it.
              if (/^READONLY\b/.test(messageOf(mapped))) Deferred.doneUnsafe(over, Effect.fail(mapped))
              // Why the connection is over says more than that it is.
              return Effect.flatMap(Deferred.isDone(over), (isOver) =>
                isOver ? Effect.mapError(Deferred.await(over), toRedisError) : Effect.fail(mapped)
              )
            }),
            // It was late. The server answers one after the other, so the connection has nothing for anybody else either.
            Effect.onInterrupt(() => Deferred.fail(over, silent))
          )
      )
    )

  const subscribed = Effect.fnUntraced(function* (channel: string, hear: (heard: Heard) => Effect.Effect<void>) {
    const { client, over } = yield* Effect.suspend(() => current)
    const messages = yield* Queue.unbounded<string, Redis.RedisError>()
    const cut = SocketCut.make()
    const subscriber = yield* Ledger.hold(
      { kind: "redis subscription", id: `${id} ${channel}` },
      Effect.sync(() =>
        client.duplicate({ socket: { signal: cut.signal, reconnectStrategy: false, connectTimeout: millis } })
      ),
      // To destroy a client that is about to connect does not keep it from that.
      (subscriber) => Effect.andThen(cutting(cut), destroying(subscriber))
    )
    subscriber.on("error", (cause) => {
      if (!subscriber.isOpen) Queue.failCauseUnsafe(messages, Cause.fail(new Redis.RedisError({ cause })))
    })
    yield* inTime(
      ask(async () => {
        await subscriber.connect()
        await subscriber.subscribe(channel, (text) => Queue.offerUnsafe(messages, text))
      })
    )
    yield* hear({ _tag: "There" })
    const ping = Effect.andThen(Effect.sleep(listenerCheck), inTime(ask(() => subscriber.ping())))
    const heard = Effect.flatMap(
      Queue.takeAll(messages),
      Effect.forEach((text) => hear({ _tag: "Message", text }))
    )
    return yield* Effect.raceAllFirst([Effect.forever(heard), Effect.forever(ping), Deferred.await(over)]).pipe(
      Effect.ensuring(hear({ _tag: "Lost" }))
    )
  }, Effect.scoped)

  return {
    send: (command, ...args) => use((redis) => redis.send(command, ...args)),
    eval:
      (script) =>
      (...params) =>
        use((redis) => redis.eval(script)(...params)),
    listen: (channel, hear) =>
      Effect.suspend(() => {
        let failures = 0
        const there = (heard: Heard) => {
          if (heard._tag === "There") failures = 0
          return hear(heard)
        }
        return Effect.ignore(subscribed(channel, there)).pipe(
          Effect.andThen(Effect.suspend(() => wait(failures++))),
          Effect.forever
        )
      })
  }
})

const cutting = ({ cut }: SocketCut.SocketCut) => Effect.sync(cut)
/** Version 5 of the driver throws where the connection is over already. */
const destroying = (client: NodeRedis.NodeRedis["Service"]["client"]) =>
  Effect.ignoreCause(Effect.sync(() => client.destroy()))
