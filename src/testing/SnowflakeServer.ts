/**
 * A server that speaks Snowflake's SQL API v2, for tests of programs without an account: statements and rows are real, PostgreSQL
 * runs them.
 *
 * The server lives as long as the scope it was made in, and listens on a free port of the loopback address. At its end statements
 * that run are cancelled, and every connection is closed.
 *
 * **When to use**
 *
 * Where a program speaks to Snowflake through `SnowflakeQueryDriver`, or by itself. SQL is PostgreSQL's: what a test sends has to
 * mean the same in both, or be for PostgreSQL. {@link SnowflakeServer} `decide` has calls fail as they do in a bad hour.
 *
 * **Details**
 *
 * - A statement is known by its `requestId`: the same one again, with `retry=true` or without, is the same statement.
 * - `async=true` is always answered with 202 first; without it there are 45 seconds for the statement.
 * - Partition 0 comes with the answer, the others compressed. Values are texts, as Snowflake writes them.
 * - A cancel is answered when PostgreSQL has ended the statement: 000604, or 000605 where it had its own end first.
 * - Handles expire (404), session parameters that do not exist are refused, and `SYSTEM$CANCEL_QUERY` ends statements, too.
 * - `database`, `schema`, `warehouse` and `role` are taken and mean nothing.
 *
 * **Gotchas**
 *
 * PostgreSQL has microseconds where Snowflake has nanoseconds. Install `@effect/sql-pg`.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import * as ConnectionPool from "../connection/ConnectionPool.ts"
import type { ConnectionError } from "../connection/ConnectionError.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import * as PgConnectionSource from "../postgres/PgConnectionSource.ts"
import * as PgQueryDriver from "../postgres/PgQueryDriver.ts"
import * as PgRecycle from "../postgres/PgRecycle.ts"
import { QueryDriver } from "../query/QueryDriver.ts"
import * as SnowflakeServerAnswers from "./internal/SnowflakeServerAnswers.ts"
import * as SnowflakeServerHttp from "./internal/SnowflakeServerHttp.ts"
import * as SnowflakeServerRequests from "./internal/SnowflakeServerRequests.ts"
import { type Statement, Statements } from "./internal/SnowflakeServerStatements.ts"
import * as SnowflakeServerTokens from "./internal/SnowflakeServerTokens.ts"

/** What a server may be told. */
export interface Options {
  /** The PostgreSQL database that statements run in. */
  readonly url: Redacted.Redacted
  /** Statements that run at once; more wait. Default: 16. */
  readonly maxRunning?: number | undefined
  /** A partition ends with the row that reaches so many bytes. Default: 1 MiB. */
  readonly partitionBytes?: number | undefined
  /** How long a statement is known. Default: 24 hours. */
  readonly handleLifetime?: Duration.Input | undefined
  /** Users who sign their tokens. Default: none. */
  readonly users?: ReadonlyArray<SnowflakeServerTokens.User> | undefined
  /** Called with each call that was answered, for tests of what goes over the wire. Must not throw. */
  readonly onExchange?: ((exchange: Exchange) => void) | undefined
}

/** A call and its answer. Bodies are as they were sent, but decompressed where they were compressed. */
export interface Exchange {
  readonly kind: Call["kind"] | "unknown"
  readonly request: SnowflakeServerHttp.Request
  readonly reply: SnowflakeServerHttp.Reply
}

/** A call that is to be answered. */
export interface Call extends SnowflakeServerRequests.Asked {
  /** Calls of this kind are counted from 1, since the last `decide`. */
  readonly number: number
}

/**
 * `pass` does what it should. `reset` and `hang` do nothing, and break the connection or leave it open without an answer. `lose`
 * does what was asked and then breaks the connection instead of answering. `pending` says of a statement that it runs, whatever
 * became of it. `feign` says that a cancel was done and does nothing. A status is answered instead of doing anything, and a delay, in
 * milliseconds, comes before the answer.
 */
export type Fault =
  | "pass"
  | "reset"
  | "hang"
  | "lose"
  | "pending"
  | "feign"
  | { readonly status: number; readonly retryAfter?: number; readonly handle?: boolean }
  | { readonly delay: number }

/** A statement as the server knows it. */
export interface Known {
  readonly handle: string
  readonly sql: string
  readonly queryTag: string
  readonly state: "running" | "succeeded" | "failed"
}

export class SnowflakeServer extends Context.Service<
  SnowflakeServer,
  {
    /** Such as `http://127.0.0.1:12345`. */
    readonly url: string
    /** A token that it takes, as `OAUTH` and as `PROGRAMMATIC_ACCESS_TOKEN`. */
    readonly token: Redacted.Redacted
    /** Takes another token, or no more. */
    readonly admit: (token: Redacted.Redacted) => Effect.Effect<void>
    readonly refuse: (token: Redacted.Redacted) => Effect.Effect<void>
    /** Decides about calls from now on. Replaces the decision before. */
    readonly decide: (fault: (call: Call) => Fault) => Effect.Effect<void>
    /** Statements that are known, in the order in which they came. */
    readonly statements: Effect.Effect<ReadonlyArray<Known>>
    /** How often a text was executed, however often it was sent. */
    readonly executions: (sql: string) => Effect.Effect<number>
    /** Statements that are not over. */
    readonly running: Effect.Effect<number>
    /** Connections that are open. */
    readonly sockets: Effect.Effect<number>
    /** Connections that were opened so far. */
    readonly accepted: Effect.Effect<number>
    /** Forgets a statement, as after 24 hours. One that runs goes on. */
    readonly expire: (handle: string) => Effect.Effect<void>
  }
>()("holdfast/testing/SnowflakeServer") {}

/** How long a call without `async=true` waits for the end of its statement. */
const patience = Duration.seconds(45)

const Submission = Schema.fromJsonString(
  Schema.Struct({
    statement: Schema.String,
    timeout: Schema.optionalKey(Schema.Int),
    bindings: Schema.optionalKey(
      Schema.Record(
        Schema.String,
        Schema.Struct({ type: Schema.String, value: Schema.optionalKey(Schema.NullOr(Schema.String)) })
      )
    ),
    parameters: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown))
  })
)
const decodeSubmission = Schema.decodeUnknownOption(Submission)

type Reply = SnowflakeServerHttp.Reply

const isReply = (given: object): given is Reply => "body" in given

/** PostgreSQL's own account is not the program's. */
const driverOf = Effect.fnUntraced(function* ({ maxRunning = 16, url }: Options) {
  const layer = PgQueryDriver.layer.pipe(
    Layer.provide(ConnectionPool.layer({ max: maxRunning, maxWaiting: 100_000, acquireTimeout: "1 hour" })),
    Layer.provide(
      PgConnectionSource.layer({
        url,
        recycle: PgRecycle.foreign,
        applicationName: "snowflake",
        statementTimeout: "7 days"
      })
    )
  )
  const services = yield* Layer.build(Layer.fresh(layer)).pipe(
    Effect.provideService(Ledger.Ledger, Ledger.makeUnsafe()),
    Effect.provideService(Ledger.Parent, undefined)
  )
  return Context.get(services, QueryDriver)
})

/** Makes a server that runs until the scope closes. */
export const make = Effect.fn("SnowflakeServer.make")(function* (
  options: Options
): Effect.fn.Return<SnowflakeServer["Service"], ConnectionError, Scope.Scope> {
  const { onExchange, users = [] } = options
  const driver = yield* driverOf(options)
  const statements = new Statements({
    driver,
    scope: yield* Effect.scope,
    partitionBytes: options.partitionBytes ?? 1024 * 1024,
    handleMillis: Duration.toMillis(Duration.fromInputUnsafe(options.handleLifetime ?? "24 hours"))
  })
  const token = `pat-${randomBytes(24).toString("base64url")}`
  const tokens = new Set([token])
  let fault: (call: Call) => Fault = () => "pass"
  let counts: Partial<Record<Call["kind"], number>> = {}

  const submit = Effect.fnUntraced(function* (url: URL, body: string) {
    const submission = Option.getOrUndefined(decodeSubmission(body))
    if (submission === undefined)
      return SnowflakeServerAnswers.json(400, {
        code: "390142",
        message: "Incoming request does not contain a valid payload."
      })
    const requestId = url.searchParams.get("requestId") ?? crypto.randomUUID()
    const statement = yield* statements.submit(requestId, submission)
    if (url.searchParams.get("async") === "true") return SnowflakeServerAnswers.pending(statement)
    yield* Effect.timeoutOption(Deferred.await(statement.over), patience)
    return SnowflakeServerAnswers.found(statement)
  })

  const cancel = Effect.fnUntraced(function* (handle: string, isFeigned: boolean) {
    const statement = statements.find(handle)
    if (statement === undefined)
      return SnowflakeServerAnswers.json(422, { ...SnowflakeServerAnswers.unknown(handle), statementHandle: handle })
    if (isFeigned || (yield* statements.cancel(statement))) {
      const { code, message, sqlState } = { code: "000604", sqlState: "57014", message: "SQL execution canceled" }
      return SnowflakeServerAnswers.json(200, { code, sqlState, message, ...SnowflakeServerAnswers.about(statement) })
    }
    const message = "Identified SQL statement is not currently executing."
    return SnowflakeServerAnswers.json(422, {
      code: "000605",
      sqlState: "02000",
      message,
      ...SnowflakeServerAnswers.about(statement)
    })
  })

  const look = (call: Call, url: URL): Reply => {
    const { handle = "" } = call
    const statement = statements.find(handle)
    if (statement === undefined) return SnowflakeServerAnswers.json(404, SnowflakeServerAnswers.unknown(handle))
    const number = url.searchParams.get("partition")
    return number === null
      ? SnowflakeServerAnswers.found(statement)
      : SnowflakeServerAnswers.partitionOf(statement, Number(number))
  }

  const answer = (call: Call, url: URL, body: string, isFeigned: boolean): Effect.Effect<Reply> =>
    call.kind === "submit"
      ? submit(url, body)
      : call.kind === "cancel"
        ? cancel(call.handle ?? "", isFeigned)
        : Effect.sync(() => look(call, url))

  const instead = (
    call: Call,
    decided: { readonly status: number; readonly retryAfter?: number; readonly handle?: boolean }
  ) => {
    const { handle, retryAfter, status } = decided
    const headers: Record<string, string> = retryAfter === undefined ? {} : { "retry-after": String(retryAfter) }
    const told = handle === true ? { code: "333334", statementHandle: call.handle } : { code: "390000" }
    return SnowflakeServerAnswers.json(status, { ...told, message: "The service is busy." }, headers)
  }

  const handle = Effect.fnUntraced(function* (
    request: Omit<SnowflakeServerHttp.Request, "body">,
    body: string | typeof SnowflakeServerHttp.tooLarge
  ): Effect.fn.Return<SnowflakeServerHttp.Deed> {
    const text = typeof body === "string" ? body : ""
    const tell = (kind: Exchange["kind"], reply: Reply) => {
      onExchange?.({ kind, request: { ...request, body: text }, reply })
      return reply
    }
    const refusal = SnowflakeServerTokens.refusalOf(request.headers, tokens, users)
    if (refusal !== undefined) return tell("unknown", SnowflakeServerAnswers.json(401, refusal))
    const asked = SnowflakeServerRequests.read(request, body)
    if (isReply(asked)) return tell("unknown", asked)
    const number = (counts[asked.kind] = (counts[asked.kind] ?? 0) + 1)
    const call = { ...asked, number }
    const decided = fault(call)
    if (decided === "hang") return "silence"
    if (decided === "reset") return "reset"
    if (typeof decided === "object" && "status" in decided) return tell(call.kind, instead(call, decided))
    const reply = yield* answer(call, request.url, text, decided === "feign")
    if (typeof decided === "object") yield* Effect.sleep(decided.delay)
    if (decided === "lose") return "reset"
    const statement = decided === "pending" ? statements.find(call.handle ?? "") : undefined
    return tell(call.kind, statement === undefined ? reply : SnowflakeServerAnswers.pending(statement))
  })

  const { accepted, sockets, url } = yield* SnowflakeServerHttp.listen(handle)
  const known = ({ handle, outcome, queryTag, sql }: Statement): Known => ({
    handle,
    sql,
    queryTag,
    state: outcome === undefined ? "running" : outcome._tag === "Succeeded" ? "succeeded" : "failed"
  })
  return SnowflakeServer.of({
    url,
    token: Redacted.make(token),
    admit: (token) => Effect.sync(() => void tokens.add(Redacted.value(token))),
    refuse: (token) => Effect.sync(() => void tokens.delete(Redacted.value(token))),
    decide: (decided) =>
      Effect.sync(() => {
        fault = decided
        counts = {}
      }),
    statements: Effect.sync(() => Array.from(statements.byHandle.values(), known)),
    executions: (sql) => Effect.sync(() => statements.executions.get(sql) ?? 0),
    running: Effect.sync(() => statements.running),
    sockets: Effect.sync(sockets),
    accepted: Effect.sync(accepted),
    expire: (handle) => Effect.sync(() => statements.forget(handle))
  })
})

/** A server of its own for each layer. */
export const layer = (options: Options): Layer.Layer<SnowflakeServer, ConnectionError> =>
  Layer.effect(SnowflakeServer, make(options))
