/**
 * What a Redis (or Valkey) server says of itself, and whether it can be used at all. Pure, but for the question.
 */
import * as Effect from "effect/Effect"
import * as Redis from "effect/persistence/Redis"
import type * as RedisConnection from "../RedisConnection.ts"

/** What somebody needs a server for. */
export interface Needs {
  /** In errors, such as `sessions`. */
  readonly what: string
  /** The oldest version of Redis that will do. Every Valkey does. */
  readonly oldest: number
  /** Why Redis Cluster will not do. */
  readonly notInCluster: string
}

/** The names and values in an answer to `INFO`. */
export type Info = ReadonlyMap<string, string>

/** Reads an answer to `INFO`. */
export const parse = (text: string): Info =>
  new Map(
    text.split(/\r?\n/).flatMap((line) => {
      const at = line.indexOf(":")
      return at <= 0 || line.startsWith("#") ? [] : [[line.slice(0, at), line.slice(at + 1)] as const]
    })
  )

/** Why the server cannot be used, and what to do; empty: it can. */
export const refusals = (info: Info, { notInCluster, oldest, what }: Needs): ReadonlyArray<string> => {
  const problems: Array<string> = []
  const version = info.get("redis_version") ?? ""
  if (version === "")
    problems.push(`The server's INFO names no redis_version: ${what} need Redis ${oldest} or newer, or Valkey`)
  else if (Number.parseInt(version, 10) < oldest)
    problems.push(`The server is Redis ${version}: ${what} need version ${oldest} or newer, or Valkey`)
  if (info.get("cluster_enabled") === "1" || info.get("redis_mode") === "cluster")
    problems.push(
      `The ${what} cannot be kept in Redis Cluster: ${notInCluster}. Use one primary, with replicas or Sentinel if you ` +
        "like, or a managed service with cluster mode disabled"
    )
  return problems
}

/** It was understood and refused, by a setting of its operator; what is over by itself has codes of its own. */
const isForbidden = (error: { readonly cause: unknown }) =>
  /^(ERR|NOPERM) /.test(error.cause instanceof Error ? error.cause.message : String(error.cause))

/** An answer, or `undefined` where it is forbidden to ask. */
export const ifAllowed = <A>(
  answer: Effect.Effect<A, Redis.RedisError>
): Effect.Effect<A | undefined, Redis.RedisError> =>
  Effect.catchIf(answer, isForbidden, () => Effect.succeed(undefined))

/** What the server says of itself; `undefined` where that is forbidden. */
export const ask = ({
  send
}: Pick<RedisConnection.RedisConnection, "send">): Effect.Effect<Info | undefined, Redis.RedisError> =>
  ifAllowed(Effect.map(send("INFO"), (text) => parse(typeof text === "string" ? text : "")))

/** Fails for a server that cannot be used; what does not let itself be asked is tried. */
export const accept = (needs: Needs) =>
  Effect.fnUntraced(function* (
    redis: Pick<RedisConnection.RedisConnection, "send">
  ): Effect.fn.Return<void, Redis.RedisError> {
    const info = yield* ask(redis)
    const problems = info === undefined ? [] : refusals(info, needs)
    if (problems.length > 0) return yield* refused(problems)
  })

/** The error of a server that is refused. */
export const refused = (problems: ReadonlyArray<string>) =>
  new Redis.RedisError({ cause: new Error(problems.join(". ")) })
