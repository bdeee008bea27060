/**
 * Looks whether a Redis server is one that sessions can be left to. The store that asks remembers the answer while it lives.
 *
 * **Details**
 *
 * What makes the store impossible (Redis Cluster, a server that is too old) is a refusal. What puts sessions at risk
 * (eviction, nothing on the disk) is a warning, or a refusal where the store is told to refuse.
 *
 * `INFO` tells most, also where a managed service forbids `CONFIG`; how often the server saves is in `CONFIG` alone, and is
 * taken for never where that is forbidden.
 */
import * as Effect from "effect/Effect"
import type * as Redis from "effect/persistence/Redis"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import type * as RedisConnection from "../RedisConnection.ts"
import * as RedisServerInfo from "./RedisServerInfo.ts"

/** What was found: each says what to do. */
export interface Findings {
  readonly refusals: ReadonlyArray<string>
  readonly warnings: ReadonlyArray<string>
}

/** Scripts that say what they are are as old as Redis 7. */
const needs: RedisServerInfo.Needs = {
  what: "sessions",
  oldest: 7,
  notInCluster:
    "one step reads a token, its session and the sessions of the same principal, which lie on different nodes"
}

/** Of a server that does not let itself be looked at. */
const unknown: Findings = {
  refusals: [],
  warnings: ["Whether Redis may lose sessions cannot be told: let the store's user run INFO and CONFIG GET"]
}

/** Judges by what the server says of itself, and by the value of `save` where it is known. */
export const judge = (info: RedisServerInfo.Info, save: string | undefined): Findings => {
  const policy = info.get("maxmemory_policy") ?? ""
  const warnings: Array<string> = []
  if (policy.startsWith("allkeys-"))
    warnings.push(
      `Redis removes sessions when its memory is full (maxmemory-policy ${policy}): people are logged out at random. ` +
        "Set maxmemory-policy noeviction"
    )
  if (info.get("aof_enabled") === "0")
    warnings.push(
      save === undefined || save === ""
        ? "Redis keeps nothing on the disk: a restart logs everybody out. Set appendonly yes"
        : "Redis saves only now and then: a crash takes back logins and logouts of the last minutes. Set appendonly yes"
    )
  return { refusals: RedisServerInfo.refusals(info, needs), warnings }
}

/** What to do when a server puts sessions at risk. */
export interface Options {
  readonly onUnsafe: "warn" | "refuse"
}

/** The value of the one setting that was asked for. */
const valueOf = (reply: unknown): string | undefined =>
  Array.isArray(reply) && typeof reply[1] === "string" ? reply[1] : undefined

type Server = Pick<RedisConnection.RedisConnection, "send">

const look = Effect.fnUntraced(function* (redis: Server) {
  const save = yield* RedisServerInfo.ifAllowed(redis.send("CONFIG", "GET", "save"))
  const info = yield* RedisServerInfo.ask(redis)
  return info === undefined ? unknown : judge(info, valueOf(save))
})

/** Makes what fails for a server that sessions cannot be left to. What it finds is logged once, until it finds something else. */
export const make = ({ onUnsafe }: Options) => {
  let told: ReadonlyArray<string> = []
  return Effect.fnUntraced(function* (redis: Server): Effect.fn.Return<void, Redis.RedisError> {
    const { refusals, warnings } = yield* look(redis)
    const problems = onUnsafe === "refuse" ? [...refusals, ...warnings] : refusals
    const found = [...refusals, ...warnings]
    const news = found.filter((problem) => !told.includes(problem))
    told = found
    yield* Effect.forEach(
      news,
      (problem) =>
        problems.includes(problem)
          ? LogEvent.error({ event: "redis.unfit" }, problem)
          : LogEvent.warning({ event: "redis.risk" }, problem),
      { discard: true }
    )
    if (problems.length > 0) return yield* RedisServerInfo.refused(problems)
  })
}
