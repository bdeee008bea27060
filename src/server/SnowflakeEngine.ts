/**
 * Snowflake as an engine of the service: what stands in `snowflake://HOST[:PORT]/DATABASE/SCHEMA?warehouse=W&role=R` and in the
 * variables of the account becomes a query driver.
 *
 * The driver lives as long as the scope that it is made in.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Context from "effect/Context"
import * as Loopback from "../lifetime/internal/Loopback.ts"
import type { QueryCapabilities } from "../query/QueryCapabilities.ts"
import { QueryDriver } from "../query/QueryDriver.ts"
import type { QueryError } from "../query/QueryError.ts"
import type { EngineSettings } from "./EngineSettings.ts"
import * as SessionKeys from "./SessionKeys.ts"

/** Who asks: one account for all engines of this kind. */
export interface Credentials {
  readonly token: Option.Option<Redacted.Redacted<string>>
  readonly tokenType: "OAUTH" | "PROGRAMMATIC_ACCESS_TOKEN"
  readonly user: Option.Option<string>
  readonly account: Option.Option<string>
  readonly privateKeyFile: Option.Option<string>
}

export const capabilities: QueryCapabilities = {
  cancel: "statement",
  streams: true,
  undoes: true,
  settings: true,
  deadline: true,
  columnTypes: true,
  parameterTypes: false,
  notices: false,
  roles: false,
  placeholder: "?"
}

/** What of the account a driver is told. */
interface Options {
  readonly url: string
  readonly database?: string
  readonly schema?: string
  readonly warehouse?: string
  readonly role?: string
  readonly token:
    | { readonly type: "OAUTH" | "PROGRAMMATIC_ACCESS_TOKEN"; readonly token: Redacted.Redacted<string> }
    | {
        readonly type: "KEYPAIR_JWT"
        readonly account: string
        readonly user: string
        readonly privateKey: Redacted.Redacted<string>
      }
}

/** The room that talks to Snowflake. */
interface Room {
  readonly layer: (options: Options) => Layer.Layer<QueryDriver, { readonly message: string }>
}

const name = `../snowflake/SnowflakeQueryDriver.${import.meta.url.endsWith(".ts") ? "ts" : "js"}`

/** Loaded when it is needed. */
const room = Effect.tryPromise({
  try: (): Promise<Room> => import(name),
  catch: () => "is of a kind that this Holdfast has no engine for"
})

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

/** Makes the driver, and what says whether it can be used; fails with what is wrong with the engine's URL or variables. */
export const make = Effect.fnUntraced(function* (
  { url }: EngineSettings,
  credentials: Credentials
): Effect.fn.Return<
  { readonly driver: QueryDriver["Service"]; readonly ready: Effect.Effect<void, QueryError> },
  string,
  Scope.Scope
> {
  const { layer } = yield* room
  const options = optionsOf(new URL(Redacted.value(url)), credentials)
  if (typeof options === "string") return yield* Effect.fail(options)
  const built = yield* Effect.mapError(Layer.build(layer(options)), ({ message }) => message)
  const driver = Context.get(built, QueryDriver)
  return { driver, ready: Effect.scoped(Effect.asVoid(driver.open)) }
})
