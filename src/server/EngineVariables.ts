/**
 * The variables that name engines: read, and looked at before anything is started.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as PgTarget from "../postgres/internal/PgTarget.ts"
import * as SqliteConnectionSource from "../sqlite/SqliteConnectionSource.ts"
import * as EngineSettings from "./EngineSettings.ts"
import * as OptionalPeer from "./OptionalPeer.ts"
import { databaseUrl, oneOf, read, refuse } from "./SettingsReading.ts"
import type * as SnowflakeEngine from "./SnowflakeEngine.ts"

/** The account of engines at Snowflake. */
export const snowflake = Effect.gen(function* () {
  const text = (name: string) => read(`HOLDFAST_SNOWFLAKE_${name}`, (it) => Config.option(Config.String(it)), "a text")
  return {
    token: yield* read("HOLDFAST_SNOWFLAKE_TOKEN", (name) => Config.option(Config.Redacted(name)), "a token"),
    tokenType: yield* oneOf("HOLDFAST_SNOWFLAKE_TOKEN_TYPE", ["OAUTH", "PROGRAMMATIC_ACCESS_TOKEN"]),
    user: yield* text("USER"),
    account: yield* text("ACCOUNT"),
    privateKeyFile: yield* text("PRIVATE_KEY_FILE")
  } satisfies SnowflakeEngine.Credentials
})

/** What is wrong with the URL of an engine, and what it lacks. What needs a package is loaded to say so. */
const lookAtEngine = Effect.fnUntraced(function* (kind: EngineSettings.Kind, url: Redacted.Redacted<string>) {
  switch (kind) {
    case "mysql": {
      const room = yield* OptionalPeer.load(() => import("../mysql/MysqlConnectionSource.ts"), "mysql2")
      const problem = room.problemOf(url)
      const isInClear = problem === undefined && room.isInClear(url)
      return { problem, remedy: isInClear ? "ssl-mode=verify_identity" : undefined }
    }
    case "sqlite":
      return { problem: SqliteConnectionSource.problemOf(Redacted.value(url)), remedy: undefined }
    case "snowflake":
      return { problem: EngineSettings.problemOf(kind, url), remedy: undefined }
    default: {
      const problem = EngineSettings.problemOf(kind, url)
      const isInClear = problem === undefined && PgTarget.of(url).isInClear
      return { problem, remedy: isInClear ? "sslmode=verify-full" : undefined }
    }
  }
})

/** The engines, by their URLs; `limits` are those of one that has none of its own. */
export const engines = Effect.fnUntraced(function* (limits: EngineSettings.Limits) {
  const url = yield* read("HOLDFAST_QUERY_URL", (name) => Config.option(Config.Redacted(name)), "a database URL")
  const list = "HOLDFAST_ENGINES"
  const text = yield* read(list, (name) => Config.withDefault(Config.Redacted(name), Redacted.make("")), "engines")
  const named = EngineSettings.parse(text)
  if (named === undefined) {
    return yield* refuse(
      list,
      "must be a list like lake=mysql://user@host/db,files=sqlite:/data/files.db, each name once, of a-z, 0-9, - and _. The name default is that of HOLDFAST_QUERY_URL"
    )
  }
  const own = yield* read("HOLDFAST_ENGINE_LIMITS", (name) => Config.withDefault(Config.String(name), ""), "limits")
  const ownLimits = EngineSettings.parseLimits(own)
  if (ownLimits === undefined) {
    return yield* refuse(
      "HOLDFAST_ENGINE_LIMITS",
      "must be a list like lake=10,files=4/2: queries at a time, and behind a slash those of one user"
    )
  }
  for (const name of ownLimits.keys()) {
    if (name !== EngineSettings.usual && !named.has(name)) {
      return yield* refuse("HOLDFAST_ENGINE_LIMITS", `names ${name}, which is no engine`)
    }
  }
  const passwordOf = (name: string) =>
    read(EngineSettings.passwordVariable(name), (it) => Config.option(Config.Redacted(it)), "a password")
  const settle = Effect.fnUntraced(function* (name: string, variable: string, url: Redacted.Redacted<string>) {
    const kind = EngineSettings.kindOf(url)
    if (kind === undefined) {
      return yield* refuse(variable, `must lead to postgres:, mysql:, sqlite: or snowflake: for the engine ${name}`)
    }
    const { problem, remedy } = yield* lookAtEngine(kind, url)
    if (problem !== undefined) return yield* refuse(variable, variable === list ? `${problem} (${name})` : problem)
    const password = yield* passwordOf(name)
    const target = kind === "postgres" ? EngineSettings.withPassword(url, password) : url
    return { name, kind, url: target, password, variable, remedy, ...(ownLimits.get(name) ?? limits) }
  })
  const isUsualElsewhere = Option.isSome(url) && !["postgres", undefined].includes(EngineSettings.kindOf(url.value))
  const usualPassword = yield* passwordOf(EngineSettings.usual)
  const others: Array<EngineSettings.EngineSettings> = []
  if (Option.isSome(url) && isUsualElsewhere) {
    others.push(yield* settle(EngineSettings.usual, "HOLDFAST_QUERY_URL", url.value))
  }
  for (const [name, url] of named) others.push(yield* settle(name, list, url))
  for (const name of Object.keys(process.env)) {
    const [, variable] = /^(HOLDFAST_ENGINE_.+_PASSWORD)(?:_FILE)?$/.exec(name) ?? []
    if (variable !== undefined && !others.some((engine) => EngineSettings.passwordVariable(engine.name) === variable)) {
      return yield* refuse(name, "is of no engine that HOLDFAST_ENGINES names")
    }
  }
  return {
    queryUrl: isUsualElsewhere
      ? Option.none()
      : Option.map(yield* databaseUrl("HOLDFAST_QUERY_URL"), (url) => EngineSettings.withPassword(url, usualPassword)),
    engines: others,
    isUsualElsewhere,
    usualLimits: ownLimits.get(EngineSettings.usual) ?? limits
  }
})
