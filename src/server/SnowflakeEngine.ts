/**
 * Snowflake as an engine of the service: what stands in `snowflake://HOST[:PORT]/DATABASE/SCHEMA?warehouse=W&role=R` and in the
 * variables of the account becomes a query driver.
 *
 * The driver lives as long as the scope that it is made in.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Loopback from "../lifetime/internal/Loopback.ts"
import type { QueryCapabilities } from "../query/QueryCapabilities.ts"
import { QueryDriver } from "../query/QueryDriver.ts"
import type { QueryError } from "../query/QueryError.ts"
import * as QueryId from "../query/QueryId.ts"
import type * as SnowflakeQueryDriver from "../snowflake/SnowflakeQueryDriver.ts"
import type { EngineSettings } from "./EngineSettings.ts"
import * as SessionKeys from "./SessionKeys.ts"
import { refuse, type SettingsError } from "./SettingsReading.ts"

/** Who asks: one account for all engines of this kind. */
export interface Credentials {
  readonly token: Option.Option<Redacted.Redacted<string>>
  readonly tokenType: "OAUTH" | "PROGRAMMATIC_ACCESS_TOKEN"
  readonly user: Option.Option<string>
  readonly account: Option.Option<string>
  readonly privateKeyFile: Option.Option<string>
}

/** Loaded when it is needed. */
const room = Effect.promise(() => import("../snowflake/SnowflakeQueryDriver.ts"))

/** What the engine can do. */
export const capabilities: Effect.Effect<QueryCapabilities> = Effect.map(room, (it) => it.capabilities)

type Options = SnowflakeQueryDriver.Options

const tokenOf = ({ account, privateKeyFile, token, tokenType, user }: Credentials): Options["token"] | string => {
  if (Option.isSome(token)) return { type: tokenType, token: token.value }
  if (Option.isNone(user) || Option.isNone(account) || Option.isNone(privateKeyFile)) {
    return "needs HOLDFAST_SNOWFLAKE_TOKEN, or HOLDFAST_SNOWFLAKE_USER, _ACCOUNT and _PRIVATE_KEY_FILE"
  }
  const privateKey = SessionKeys.read(privateKeyFile.value)
  return privateKey === undefined
    ? "needs HOLDFAST_SNOWFLAKE_PRIVATE_KEY_FILE to name a file that Holdfast can read"
    : { type: "KEYPAIR_JWT", account: account.value, user: user.value, privateKey }
}

/** How long a statement that only asks whether the engine is there may take. */
const patience = Duration.seconds(4)

/** What a URL says, or what is wrong with it. */
const optionsOf = (url: URL, credentials: Credentials): Options | string => {
  const { host, hostname, pathname, searchParams } = url
  const protocol = searchParams.get("protocol") ?? "https"
  if (protocol !== "https" && (protocol !== "http" || !Loopback.isLoopback(hostname))) {
    return "must have no protocol but https; http is for loopback hosts only"
  }
  const token = tokenOf(credentials)
  if (typeof token === "string") return token
  const [database, schema] = pathname.split("/").slice(1).map(decodeURIComponent)
  const [warehouse, role] = [searchParams.get("warehouse"), searchParams.get("role")]
  return {
    url: `${protocol}://${host}`,
    token,
    ...(database !== undefined && database !== "" && { database }),
    ...(schema !== undefined && schema !== "" && { schema }),
    ...(warehouse !== null && { warehouse }),
    ...(role !== null && { role })
  }
}

const nowhere = { columns: () => Effect.void, rows: () => Effect.void }

/**
 * Runs a short statement: the engine is ready where it succeeds. Waiting for it can be given up at any moment; the statement is then
 * cancelled, and its end is waited for when the scope closes.
 */
const readyOf = (driver: QueryDriver["Service"], scope: Scope.Scope): Effect.Effect<void, QueryError> => {
  const asked = Effect.scoped(
    Effect.flatMap(driver.open, (connection) =>
      connection.execute({ sql: "select 1", params: [] }, nowhere, {
        id: QueryId.make(),
        deadline: patience,
        onDone: () => undefined,
        onGivenUp: () => undefined
      })
    )
  )
  return Effect.flatMap(Effect.forkIn(asked, scope), (fiber) =>
    Effect.asVoid(Effect.onInterrupt(Fiber.join(fiber), () => Effect.sync(() => fiber.interruptUnsafe())))
  )
}

/** Makes the driver, and what says whether it can be used; fails with what is wrong with the engine's URL or variables. */
export const make = Effect.fnUntraced(function* (
  { url, variable }: EngineSettings,
  credentials: Credentials
): Effect.fn.Return<
  { readonly driver: QueryDriver["Service"]; readonly ready: Effect.Effect<void, QueryError> },
  SettingsError,
  Scope.Scope
> {
  const options = optionsOf(new URL(Redacted.value(url)), credentials)
  if (typeof options === "string") return yield* refuse(variable, options)
  const { make } = yield* room
  const driver = Context.get(
    yield* Effect.catchTag(make(options), "ClientError", ({ message, reason }) =>
      reason._tag === "InvalidConfig" && reason.field === "token.privateKey"
        ? refuse("HOLDFAST_SNOWFLAKE_PRIVATE_KEY_FILE", reason.problem)
        : refuse(variable, `cannot be used: ${message}`)
    ),
    QueryDriver
  )
  return { driver, ready: readyOf(driver, yield* Effect.scope) }
})
