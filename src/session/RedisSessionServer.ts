/**
 * Looks whether a Redis server is one that sessions can be left to.
 *
 * **Details**
 *
 * What makes the store impossible (Redis Cluster, a server that is too old) is a refusal. What puts sessions at risk
 * (eviction, nothing on the disk) is a warning, or a refusal for whoever wants it so.
 *
 * `INFO` tells most, also where a managed service forbids `CONFIG`; how often the server saves is in `CONFIG` alone, and is
 * taken for never where that is forbidden.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type * as RedisConnection from "../RedisConnection.ts"
import * as RedisSessionReply from "./RedisSessionReply.ts"
import type { SessionError } from "./SessionError.ts"

/** What was found: each says what to do. */
export interface Findings {
  readonly refusals: ReadonlyArray<string>
  readonly warnings: ReadonlyArray<string>
}

/** The names and values in an answer to `INFO`. */
const infoOf = (text: string): ReadonlyMap<string, string> =>
  new Map(
    text.split(/\r?\n/).flatMap((line) => {
      const at = line.indexOf(":")
      return at <= 0 || line.startsWith("#") ? [] : [[line.slice(0, at), line.slice(at + 1)] as const]
    })
  )

/** Scripts that say what they are, and a clock in them, are as old as Redis 7. */
const oldest = 7

const cluster =
  "The sessions cannot be kept in Redis Cluster: one step reads a token, its session and the sessions of the same " +
  "principal, which lie on different nodes. Use one primary, with replicas or Sentinel if you like, or a managed service " +
  "with cluster mode disabled"

/** Of a server that does not let itself be looked at. */
const unknown: Findings = {
  refusals: [],
  warnings: ["Whether Redis may lose sessions cannot be told: let the store's user run INFO and CONFIG GET"]
}

/** Judges by an answer to `INFO`, and by the value of `save` where it is known. */
export const judge = (info: string, save: string | undefined): Findings => {
  const values = infoOf(info)
  const version = values.get("redis_version") ?? ""
  const policy = values.get("maxmemory_policy") ?? ""
  const refusals: Array<string> = []
  const warnings: Array<string> = []
  if (version === "")
    refusals.push("The server's INFO names no redis_version: sessions need Redis 7 or newer, or Valkey")
  else if (Number.parseInt(version, 10) < oldest)
    refusals.push(`The server is Redis ${version}: sessions need version ${oldest} or newer, or Valkey`)
  if (values.get("cluster_enabled") === "1" || values.get("redis_mode") === "cluster") refusals.push(cluster)
  if (policy.startsWith("allkeys-"))
    warnings.push(
      `Redis removes sessions when its memory is full (maxmemory-policy ${policy}): people are logged out at random. ` +
        "Set maxmemory-policy noeviction"
    )
  if (values.get("aof_enabled") === "0")
    warnings.push(
      save === undefined || save === ""
        ? "Redis keeps nothing on the disk: a restart logs everybody out. Set appendonly yes"
        : "Redis saves only now and then: a crash takes back logins and logouts of the last minutes. Set appendonly yes"
    )
  return { refusals, warnings }
}

/** A server, and what to do when it puts sessions at risk. */
export interface Options {
  readonly redis: Pick<RedisConnection.RedisConnection, "send">
  readonly onUnsafe: "warn" | "refuse"
}

/** A server that was refused is looked at again this often, for it may have been set up meanwhile. */
const again = Duration.toNanosUnsafe(Duration.seconds(1))

/** It was understood and refused, in the words of whoever runs the server; what is over by itself has codes of its own. */
const isForbidden = (error: { readonly cause: unknown }) =>
  /^(ERR|NOPERM) /.test(error.cause instanceof Error ? error.cause.message : String(error.cause))

/** The value of the one setting that was asked for. */
const valueOf = (reply: unknown): string | undefined =>
  Array.isArray(reply) && typeof reply[1] === "string" ? reply[1] : undefined

/** Judges one server, whenever it is told to look and before anything else is asked of it. */
export const make = Effect.fnUntraced(function* ({ onUnsafe, redis }: Options) {
  const clock = yield* Clock.Clock
  const one = yield* Semaphore.make(1)
  let verdict: { readonly refusal: SessionError | undefined; readonly at: bigint } | undefined
  let told: ReadonlyArray<string> = []

  const ask = Effect.gen(function* () {
    const save = yield* Effect.map(redis.send("CONFIG", "GET", "save"), valueOf).pipe(
      Effect.catchIf(isForbidden, () => Effect.succeed(undefined))
    )
    const info = yield* redis.send("INFO")
    return judge(typeof info === "string" ? info : "", save)
  }).pipe(
    Effect.catchIf(isForbidden, () => Effect.succeed(unknown)),
    Effect.mapError(RedisSessionReply.failed)
  )

  const look: Effect.Effect<void, SessionError> = Effect.gen(function* () {
    const { refusals, warnings } = yield* ask
    const problems = onUnsafe === "refuse" ? [...refusals, ...warnings] : refusals
    const refusal = problems.length === 0 ? undefined : RedisSessionReply.unavailable(new Error(problems.join(". ")))
    verdict = { refusal, at: clock.monotonicTimeNanosUnsafe() }
    const found = [...refusals, ...warnings]
    const news = found.filter((problem) => !told.includes(problem))
    told = found
    yield* Effect.forEach(
      news,
      (problem) => (problems.includes(problem) ? Effect.logError(problem) : Effect.logWarning(problem)),
      { discard: true }
    )
  })

  const known = () => {
    if (verdict === undefined) return undefined
    if (verdict.refusal === undefined) return Effect.void
    return clock.monotonicTimeNanosUnsafe() - verdict.at < again ? Effect.fail(verdict.refusal) : undefined
  }
  const settled: Effect.Effect<void, SessionError> = Effect.suspend(() => known() ?? Effect.andThen(look, settled))

  return {
    /** Looks again: the server may be another one. */
    look: Effect.ignore(one.withPermit(look)),
    /** Succeeds for a server that sessions can be left to; looks at it if nobody has. */
    accepted: Effect.suspend(() => known() ?? one.withPermit(settled))
  }
})
