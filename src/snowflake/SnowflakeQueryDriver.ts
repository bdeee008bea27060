/**
 * Runs statements on Snowflake, over its SQL API v2.
 *
 * The driver lives as long as its layer, and so do its connections over HTTP. A connection of the contract is held from `open` to
 * the end of its scope; on the server it is nothing until a statement runs. Interrupting a statement cancels it and waits until the
 * server has said what became of it.
 *
 * ```
 * driver ──┬── client session ── sockets
 *          ├── connection ── statement       interrupted → cancelled → the server says that it is over → released
 *          └── unconfirmed statement ······· one whose end the server did not confirm in time, until it does
 * ```
 *
 * **Details**
 *
 * - A statement is sent with a request id, and again with the same one where the answer was lost: it runs once. Its handle is known
 *   at once, and looked at more and more rarely until it is over.
 * - 429 and 5xx are waited out, for as long as `Retry-After` says, up to `outageLimit` in a row.
 * - Snowflake is told when to end the statement by itself: a second after the deadline. `QUERY_TAG` is `holdfast` and the query's id.
 * - Values become JSON by the rules of `docs/engines.md`. Placeholders are `?`; what the server reads them as is not asked: pass
 *   `{ type: "BINARY", value: "AP8=" }` where a string would be read as something else.
 * - Rows come in partitions, each fetched whole, the next one ahead; a slow reader holds up nothing.
 *
 * **Gotchas**
 *
 * A handle is known for 24 hours at the server. {@link SnowflakeStatements} finds a statement by it, also after a restart of the
 * program: have `onSubmitted` write it down.
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import type { ClientError } from "../client/ClientError.ts"
import * as ClientSession from "../client/ClientSession.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import type { QueryCapabilities } from "../query/QueryCapabilities.ts"
import {
  type Execution,
  type QueryConnection,
  QueryDriver,
  type RowSink,
  type Statement,
  type Summary
} from "../query/QueryDriver.ts"
import type { QueryError } from "../query/QueryError.ts"
import type { QueryId } from "../query/QueryId.ts"
import { AccessTokens } from "../token/AccessTokens.ts"
import * as BearerClient from "../token/BearerClient.ts"
import * as SnowflakeApi from "./internal/SnowflakeApi.ts"
import * as SnowflakeElsewhere from "./internal/SnowflakeElsewhere.ts"
import * as SnowflakeErrors from "./internal/SnowflakeErrors.ts"
import * as SnowflakeExecution from "./internal/SnowflakeExecution.ts"
import * as SnowflakeOptions from "./internal/SnowflakeOptions.ts"
import * as SnowflakeStatement from "./internal/SnowflakeStatement.ts"
import * as SnowflakeSubmission from "./internal/SnowflakeSubmission.ts"
import * as SnowflakeTokens from "./internal/SnowflakeTokens.ts"

/** How to reach the account, as whom, and within what limits. */
export interface Options extends SnowflakeOptions.Options {
  /**
   * Told the handle of each statement as soon as it is known, before anything else is done with it. What it does must be quick and
   * is not interrupted. Default: nobody is told.
   */
  readonly onSubmitted?: ((query: QueryId, handle: string) => Effect.Effect<void>) | undefined
}

export type { Token } from "./internal/SnowflakeTokens.ts"

/** What the engine can do. What it cannot stands in `docs/engines.md`. */
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

/** Statements of any program, by the server's own name for them. */
export class SnowflakeStatements extends Context.Service<
  SnowflakeStatements,
  {
    /**
     * Takes up a statement that was submitted earlier, also by another process, and hands over its rows. Interrupted, it ends the
     * statement as `execute` does.
     */
    readonly attach: (
      handle: string,
      sink: RowSink,
      execution: Pick<Execution, "onDone" | "onGivenUp">
    ) => Effect.Effect<Summary, QueryError>
    /**
     * Ends a statement and waits, at most `cancelLimit`, until the server says that it is over. Tells whether it said so; if not, the
     * driver goes on ending it. One that is over, or that the server does not know, stays as it is.
     */
    readonly end: (handle: string) => Effect.Effect<boolean>
  }
>()("holdfast/snowflake/SnowflakeStatements") {}

/** What {@link layer} provides. */
export type Provided = QueryDriver | SnowflakeStatements

let connections = 0

/** How long one call about a cancel may take. */
const cancelCallLimit = Duration.seconds(1)

/** The client whose requests carry the token, for the current scope. */
const clientOf = Effect.fnUntraced(function* (limits: SnowflakeOptions.Limits, options: Options) {
  const { callTimeout, connections, maxPartitionBytes, origin } = limits
  const session = yield* ClientSession.make({
    // What is sent again, and when, is for the statements to say.
    retry: false,
    maxRedirects: 0,
    timeout: Duration.times(callTimeout, 10),
    headersTimeout: callTimeout,
    bodyTimeout: callTimeout,
    silenceTimeout: callTimeout,
    connectionsPerOrigin: connections,
    maxResponseBytes: maxPartitionBytes,
    grace: 0,
    tls: options.tls
  })
  const tokens = yield* SnowflakeTokens.make(origin, options.token)
  const client = yield* BearerClient.make({ origins: [origin] }).pipe(
    Effect.provideService(HttpClient.HttpClient, session.client),
    Effect.provideService(AccessTokens, tokens)
  )
  return { client, tokens }
})

/** Makes the driver for the current scope. Fails with `InvalidConfig`, which names the option, where one makes no sense. */
export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<Context.Context<Provided>, ClientError, Scope.Scope> {
  const limits = yield* SnowflakeOptions.decode(options)
  const { client, tokens } = yield* clientOf(limits, options)
  const { cancelLimit, firstPollMillis, longestPollMillis, origin, outageLimit, prefetchBytes, userAgent } = limits
  const ground: SnowflakeStatement.Ground = {
    api: SnowflakeApi.make({ client, origin, tokenType: options.token.type, userAgent }),
    // After the client in the order of acquisition, so that what ends statements in the background is over before it.
    scope: yield* Effect.scope,
    firstPollMillis,
    longestPollMillis,
    outageLimit,
    cancelCallLimit,
    cancelLimit
  }
  const limit = { bytes: prefetchBytes }
  const { onSubmitted } = options

  /** Submits a statement, of which it is noted first by what it can be ended from elsewhere. */
  const submitted = (
    restore: SnowflakeExecution.Restore,
    { id, onHandle }: Execution,
    submission: SnowflakeApi.Submission,
    onSubmitted: (handle: string) => Effect.Effect<void>
  ) => {
    const requestId = randomUUID()
    if (onHandle === undefined) return SnowflakeStatement.submit(ground, id, requestId, submission, onSubmitted)
    return Effect.andThen(
      restore(onHandle(SnowflakeElsewhere.noteOfRequest(requestId))),
      SnowflakeStatement.submit(ground, id, requestId, submission, (handle) =>
        Effect.andThen(
          onSubmitted(handle),
          // The id of the request is noted, and leads to it.
          Effect.ignore(onHandle(SnowflakeElsewhere.noteOfHandle(requestId, handle)))
        )
      )
    )
  }

  const execute = (
    statement: Statement,
    sink: RowSink,
    execution: Execution,
    told: (handle: string | undefined) => void
  ): Effect.Effect<Summary, QueryError> =>
    Effect.suspend(() => {
      const submission = SnowflakeSubmission.of(statement, execution, limits)
      if (typeof submission === "string") return Effect.fail(SnowflakeErrors.failed(submission))
      const nature = SnowflakeExecution.natureOf(statement.sql, SnowflakeSubmission.isOne(submission))
      return Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(
          submitted(restore, execution, submission, (handle) => {
            told(handle)
            return onSubmitted?.(execution.id, handle) ?? Effect.void
          }),
          (submitted) => SnowflakeExecution.run(restore, ground, limit, submitted, nature, sink, execution)
        )
      )
    })

  const open = Effect.gen(function* () {
    yield* Effect.mapError(tokens.get, ({ message }) => SnowflakeErrors.unavailable(message))
    const id = `snowflake ${++connections}`
    let handle: string | undefined
    const attributes = () => (handle === undefined ? { origin } : { origin, handle })
    return yield* Ledger.hold(
      { kind: "connection", id, attributes, releaseLimit: "none" },
      Effect.sync((): QueryConnection => ({
        id,
        execute: (statement, sink, execution) =>
          execute(statement, sink, execution, (known) => {
            handle = known
          })
      })),
      () => Effect.void
    )
  })

  const statements = SnowflakeStatements.of({
    attach: (handle, sink, execution) =>
      Effect.uninterruptibleMask((restore) => {
        const attached = SnowflakeStatement.attached(handle)
        return SnowflakeExecution.run(restore, ground, limit, attached, SnowflakeExecution.unknown, sink, execution)
      }),
    end: (handle) => {
      const attached = SnowflakeStatement.attached(handle)
      return Effect.map(SnowflakeStatement.end(ground, attached), () => !SnowflakeStatement.isOpen(attached.statement))
    }
  })
  return Context.make(
    QueryDriver,
    QueryDriver.of({ open, capabilities, elsewhere: SnowflakeElsewhere.make(ground) })
  ).pipe(Context.add(SnowflakeStatements, statements))
})

/** A driver for an account, and its statements by their handles. */
export const layer = (options: Options): Layer.Layer<Provided, ClientError> => Layer.effectContext(make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ account: Config.String("SNOWFLAKE_ACCOUNT"), … })`. */
export const layerConfig = (config: Config.Wrap<Options>): Layer.Layer<Provided, ClientError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
