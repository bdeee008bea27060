/**
 * Keeps the rows of queries in PostgreSQL, beside the journal of `PgQueryJournal`: any instance reads them, also when the one that
 * ran the query is gone.
 *
 * Connections live as long as the layer. Rows live as long as the record of their query, whatever becomes of the instance; those
 * of a query that fails go with it.
 *
 * **Details**
 *
 * Rows are encoded as lines of JSON when they come. Results of up to 8 KiB are written with the outcome of their query and cost no
 * statement. Longer ones go to the table in chunks of 256 KiB, one of which is on its way while the next is gathered; a
 * statement that produces more waits. A page ends early when it has about 4 MiB of rows; its `next` tells.
 *
 * Limits count what all instances keep. How much that is, is asked once a second while rows come, so that for a second of
 * writing there may be more.
 *
 * **Gotchas**
 *
 * The write-ahead log grows by about three times the bytes of the rows. They need the same database and schema as the journal.
 *
 * Install `@effect/sql-pg` beside Holdfast.
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { isSqlError } from "effect/sql/SqlError"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import * as Timers from "../lifetime/internal/Timers.ts"
import * as TimeLimit from "../lifetime/TimeLimit.ts"
import type { QueryError } from "../query/QueryError.ts"
import { type Owner, QueryResults } from "../query/QueryResults.ts"
import * as QueryRoom from "../query/internal/QueryRoom.ts"
import { type Ask, inlineOf, pageOf, type Store, tableOf, textOf } from "./internal/PgQueryLines.ts"
import { notKept, notRead, PgQueryResult } from "./internal/PgQueryResult.ts"
import * as PgQueryRow from "./internal/PgQueryRow.ts"
import * as PgQuerySql from "./internal/PgQuerySql.ts"
import { connectionOf } from "./internal/PgSessionConfig.ts"
import * as PgSiblings from "./internal/PgSiblings.ts"
import * as PgTarget from "./internal/PgTarget.ts"
import { schemaOf } from "./internal/PgQueryConfig.ts"

/** Where rows are kept, and how many. Bytes are those of the rows' JSON text. */
export interface Options {
  /** That of the journal. */
  readonly url: Redacted.Redacted<string>
  /** That of the journal. Default: `holdfast`. */
  readonly schema?: string | undefined
  /** At least 2: half for writing, half for reading. Default: 6. */
  readonly maxConnections?: number | undefined
  /** How long an operation may take, waiting for a connection included; at most 24 days. Default: 10 seconds. */
  readonly operationTimeout?: Duration.Input | undefined
  /** For the rows of one query; more fails it with `ResultTooLarge`. Default: 1 GiB. */
  readonly limitBytes?: number | undefined
  /** For the rows of one principal's queries; more fails the one that adds them with `ResultsFull`. Default: half of all. */
  readonly principalBytes?: number | undefined
  /** For the rows of all queries together; more fails the one that adds them with `ResultsFull`. Default: 8 GiB. */
  readonly totalBytes?: number | undefined
  /** As of `FileQueryResults`. Default: 16. */
  readonly shares?: number | undefined
  /** Shown by the server to operators. Default: `holdfast-queries-rows`. */
  readonly applicationName?: string | undefined
}

const kibibyte = 1024
const mebibyte = 1024 * kibibyte
const gibibyte = 1024 * mebibyte

/** How old it may be what is known of the room that is taken, in milliseconds. */
const roomAge = 1000

const decodeKept = PgQueryRow.decode(Schema.Tuple([Schema.String, Schema.Finite]))

/** Makes a store whose connections close with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const schema = yield* schemaOf(options)
  const statements = PgQuerySql.make(schema, PgQuerySql.channelOf(schema))
  const limit = Timers.clamp(Duration.fromInputUnsafe(options.operationTimeout ?? "10 seconds"))
  const max = Math.max(options.maxConnections ?? 6, 2)
  const connection = {
    ...connectionOf(
      { ...options, applicationName: options.applicationName ?? "holdfast-queries-rows" },
      Duration.min(limit, Duration.seconds(3)),
      limit
    ),
    url: options.url
  }
  const scope = yield* Ledger.hold(
    { kind: "query results", id: PgTarget.whereOf(options.url) },
    Effect.sync(() => Scope.makeUnsafe("parallel")),
    Scope.close
  )
  const siblings = yield* Scope.provide(PgSiblings.make("queries", limit), scope)
  const open: PgSiblings.Siblings = (name, config) => Scope.provide(Effect.orDie(siblings(name, config)), scope)
  const readers = yield* Effect.orDie(open("rows read", { ...connection, maxConnections: Math.floor(max / 2) }))
  const writers = yield* Effect.orDie(open("rows written", { ...connection, maxConnections: Math.ceil(max / 2) }))
  const within = yield* Scope.provide(TimeLimit.make(limit, PgQueryRow.late), scope)
  const asked =
    (pool: PgSiblings.Connections, problem: QueryError): Ask =>
    (sql, params) =>
      within(pool.use((connection) => connection.queryValues(sql, params))).pipe(
        // Why is in the log of outages; the reader of the record may be anybody.
        Effect.tapError((error) =>
          isSqlError(error) ? LogEvent.debug({ event: "results.refused" }, "Rows in PostgreSQL", error) : Effect.void
        ),
        Effect.mapError(() => problem)
      )
  const read = asked(readers, notRead)

  const totalBytes = options.totalBytes ?? 8 * gibibyte
  const limits = {
    limitBytes: options.limitBytes ?? gibibyte,
    principalBytes: options.principalBytes,
    shares: options.shares,
    totalBytes
  }
  const clock = yield* Clock.Clock
  let room = new QueryRoom.Room(limits)
  let lookedAt = Number.NEGATIVE_INFINITY
  const look = Effect.suspend(() => {
    const at = SteadyClock.millis(clock)
    if (at - lookedAt < roomAge) return Effect.void
    lookedAt = at
    return Effect.flatMap(read(statements.kept, []), (rows) =>
      Effect.map(Effect.forEach(rows, decodeKept), (kept) => {
        const known = new QueryRoom.Room(limits)
        for (const [principal, bytes] of kept) known.leave(principal, -bytes)
        room = known
      })
    )
  })
  const store: Store = {
    statements,
    read,
    write: asked(writers, notKept),
    take: (principal, has, bytes) => room.take(principal, has, bytes),
    leave: (principal, bytes) => room.leave(principal, bytes),
    look
  }

  const openResult = (owner: Owner) =>
    Effect.flatMap(Effect.scope, (scope) => {
      const result = new PgQueryResult(store, owner, scope)
      return Effect.as(
        Scope.addFinalizer(
          scope,
          Effect.suspend(() => result.free)
        ),
        result
      )
    })
  return QueryResults.of({
    open: openResult,
    sealed: (sealed) => {
      const lines = sealed.inline === undefined ? tableOf(store, sealed) : inlineOf(sealed.inline, sealed)
      return { page: pageOf(lines), text: textOf(lines) }
    },
    ready: Effect.asVoid(read(statements.ping, []))
  })
})

/** Rows in a database that has, or will have, the tables of `PgQueryJournal.migrate`. */
export const layer = (options: Options): Layer.Layer<QueryResults> => Layer.effect(QueryResults, make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ url: Config.Redacted("DATABASE_URL") })`. */
export const layerConfig = (config: Config.Wrap<Options>): Layer.Layer<QueryResults, Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
