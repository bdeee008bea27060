/**
 * What a `SnowflakeQueryDriver` may be told, what it does where nothing is said, and what makes no sense.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { ClientError, InvalidConfig } from "../../client/ClientError.ts"
import * as ClientSessionOptions from "../../client/internal/ClientSessionOptions.ts"
import * as TokenEndpoint from "../../token/internal/TokenEndpoint.ts"
import type { Token } from "./SnowflakeTokens.ts"

export interface Options {
  /** As in the URL of the account, such as `myorg-myaccount`. Default: that of `url`. One of the two must be there. */
  readonly account?: string | undefined
  /** Default: `https://<account>.snowflakecomputing.com`. `http` on a loopback address only. */
  readonly url?: string | URL | undefined
  /** Names are as Snowflake keeps them: `ANALYTICS`, unless it was made with quotes. Default: the user's. */
  readonly database?: string | undefined
  readonly schema?: string | undefined
  readonly warehouse?: string | undefined
  readonly role?: string | undefined
  /** Who asks. */
  readonly token: Token
  /** Session parameters of every statement, such as `TIMEZONE`. Those of a statement come on top. Default: none. */
  readonly parameters?: Readonly<Record<string, string>> | undefined
  /** The first look at a statement comes so soon after its submission; then they come more and more rarely. Default: 50 milliseconds. */
  readonly firstPoll?: Duration.Input | undefined
  /** The longest time between two looks. A cancel does not wait for the next one. Default: 2 seconds. */
  readonly longestPoll?: Duration.Input | undefined
  /** How long one call may take. A statement may run for longer: a call only starts it or looks at it. Default: 20 seconds. */
  readonly callTimeout?: Duration.Input | undefined
  /** How long in a row calls may fail with what may pass (429, 5xx, no answer) before a query fails. Default: 1 minute. */
  readonly outageLimit?: Duration.Input | undefined
  /**
   * How long an interrupted query waits for the server's word that its statement is over. Then it ends with `written: "unknown"`,
   * and the statement is ended in the background. Default: 4 seconds.
   */
  readonly cancelLimit?: Duration.Input | undefined
  /** Bytes of a result that are in memory at once, unless one partition alone has more. Default: 32 MiB. */
  readonly prefetchBytes?: number | undefined
  /** The largest answer that is taken in, decompressed. Default: 256 MiB. */
  readonly maxPartitionBytes?: number | undefined
  /** Connections to Snowflake at once. Default: 64. */
  readonly connections?: number | undefined
  /** Whom to trust, as in `tls.connect`. Default: what Node trusts. */
  readonly tls?: ClientSessionOptions.Options["tls"]
  /** Names the program in Snowflake's history. Default: `holdfast`. */
  readonly application?: string | undefined
}

/** The options as they are used. */
export interface Limits {
  readonly origin: string
  readonly context: {
    readonly database?: string
    readonly schema?: string
    readonly warehouse?: string
    readonly role?: string
  }
  readonly parameters: Readonly<Record<string, string>>
  readonly firstPollMillis: number
  readonly longestPollMillis: number
  readonly callTimeout: Duration.Duration
  readonly outageLimit: Duration.Duration
  readonly cancelLimit: Duration.Duration
  readonly prefetchBytes: number
  readonly maxPartitionBytes: number
  readonly connections: number
  readonly userAgent: string
}

const invalid = (field: string, problem: string) =>
  Effect.fail(new ClientError({ reason: new InvalidConfig({ field, problem }) }))

const positive = { be: "positive" } as const

const originOf = Effect.fnUntraced(function* ({ account, url }: Options) {
  if (url === undefined) {
    if (account === undefined) return yield* invalid("account", "is not there, and neither is `url`. Give one of them")
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(account)) {
      return yield* invalid("account", "must be as in the URL of the account, such as myorg-myaccount")
    }
    // A host name has no underscore: Snowflake knows the account by a hyphen, too.
    return `https://${account.replaceAll("_", "-").toLowerCase()}.snowflakecomputing.com`
  }
  const { origin, url: whole } = yield* TokenEndpoint.make("url", url)
  return new URL(whole).pathname === "/" ? origin : yield* invalid("url", "must be given as https://host")
})

const named = (names: Readonly<Record<string, string | undefined>>) =>
  Effect.forEach(
    Object.entries(names).filter((entry): entry is [string, string] => entry[1] !== undefined),
    ([field, value]) =>
      value !== "" && value.isWellFormed()
        ? Effect.succeed([field, value] as const)
        : invalid(field, "must be the name of it, or be left out")
  )

/** Fails with `InvalidConfig` naming the first field that makes no sense. */
export const decode = Effect.fnUntraced(function* (options: Options) {
  const millis = (field: "firstPoll" | "longestPoll", otherwise: Duration.Input) =>
    Effect.map(ClientSessionOptions.time(field, options[field] ?? otherwise, positive), Duration.toMillis)
  const time = (field: "callTimeout" | "cancelLimit" | "outageLimit", otherwise: Duration.Input) =>
    ClientSessionOptions.time(field, options[field] ?? otherwise, positive)
  const { database, role, schema, warehouse } = options
  const application = options.application ?? "holdfast"
  if (!/^[\x21-\x7e]{1,100}$/.test(application)) {
    return yield* invalid("application", "must have 1 to 100 visible characters of ASCII")
  }
  const limits: Limits = {
    origin: yield* originOf(options),
    context: Object.fromEntries(yield* named({ database, schema, warehouse, role })),
    parameters: options.parameters ?? {},
    firstPollMillis: yield* millis("firstPoll", "50 millis"),
    longestPollMillis: yield* millis("longestPoll", "2 seconds"),
    callTimeout: yield* time("callTimeout", "20 seconds"),
    outageLimit: yield* time("outageLimit", "1 minute"),
    cancelLimit: yield* time("cancelLimit", "4 seconds"),
    prefetchBytes: yield* ClientSessionOptions.count("prefetchBytes", options.prefetchBytes ?? 32 * 1024 * 1024, 1),
    maxPartitionBytes: yield* ClientSessionOptions.count(
      "maxPartitionBytes",
      options.maxPartitionBytes ?? 256 * 1024 * 1024,
      1024
    ),
    connections: yield* ClientSessionOptions.count("connections", options.connections ?? 64, 1),
    userAgent: `${application}/1`
  }
  return limits
})
