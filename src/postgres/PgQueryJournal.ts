/**
 * A `QueryJournal` in PostgreSQL: every instance of a program answers for every query, also of instances that are gone.
 *
 * The journal's connections live as long as its layer, and so does the instance. The layer is built also while the database is
 * away, and operations fail with `QueriesUnavailable` until it is back. The tables are made by {@link migrate}, which the program
 * runs when it starts and as often as it takes.
 *
 * **Details**
 *
 * The tables are the truth; `NOTIFY` carries news and cancels, and what is lost on the way is found by asking: a waiting caller
 * looks again every five seconds, an instance with every beat. One connection writes, some read, one listens.
 *
 * An instance that dies is noticed when its lease is over, or two beats after its connection that listens was gone. Its
 * connections at the engines are ended first, and then its queries are told: those that had certainly not begun, and those that
 * may run again, run on another instance; the others are `Failed`, and `written` is `unknown`. At the usual times that takes
 * four seconds for a process that was killed, and seven for one that stands still.
 *
 * What limits count: places are each instance's own. What one principal has waiting, its keys and its records count over
 * all instances.
 *
 * **Gotchas**
 *
 * All instances need the same engines, by the same names. It needs PostgreSQL 14, and connections that let it set parameters (a
 * pooler in front in session mode, or none). Every instance hears of every query on one channel.
 *
 * Install `@effect/sql-pg` beside Holdfast.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { isSqlError } from "effect/sql/SqlError"
import { hostname } from "node:os"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import * as TimeLimit from "../lifetime/TimeLimit.ts"
import { QueryId } from "../query/QueryId.ts"
import * as QueryJournal from "../query/QueryJournal.ts"
import * as PgListener from "./internal/PgListener.ts"
import { config, limitOf, schemaOf } from "./internal/PgQueryConfig.ts"
import * as PgQueryEntering from "./internal/PgQueryEntering.ts"
import * as PgQueryInstance from "./internal/PgQueryInstance.ts"
import * as PgQueryMigrations from "./internal/PgQueryMigrations.ts"
import * as PgQueryNews from "./internal/PgQueryNews.ts"
import * as PgQueryNotes from "./internal/PgQueryNotes.ts"
import * as PgQueryPruning from "./internal/PgQueryPruning.ts"
import * as PgQueryQuestions from "./internal/PgQueryQuestions.ts"
import * as PgQueryRow from "./internal/PgQueryRow.ts"
import * as PgQuerySql from "./internal/PgQuerySql.ts"
import * as PgQueryTakeover from "./internal/PgQueryTakeover.ts"
import * as PgQueryWriter from "./internal/PgQueryWriter.ts"
import { isStandby, migrationTimeout } from "./internal/PgSessionConfig.ts"
import * as PgSiblings from "./internal/PgSiblings.ts"
import * as PgTarget from "./internal/PgTarget.ts"

/** Where the journal is. */
export interface Options {
  /** `postgres://user:password@host:port/database`. One that can never work is a defect when the journal is made. */
  readonly url: Redacted.Redacted<string>
  /** Lower-case letters, digits and underscores. Default: `holdfast`. */
  readonly schema?: string | undefined
  /** What records and operators know this instance by. Default: host name and process id. */
  readonly instance?: string | undefined
  /** Connections that read; one that writes and one that listens come on top. Default: 2. */
  readonly maxConnections?: number | undefined
  /** How long an operation may take, waiting for a connection included; at most 24 days. Default: 3 seconds. */
  readonly operationTimeout?: Duration.Input | undefined
  /** How often the lease is renewed. Default: 1.15 seconds. */
  readonly beat?: Duration.Input | undefined
  /** How long an instance is trusted that does not renew its lease; at least three beats. Default: 5 seconds. */
  readonly lease?: Duration.Input | undefined
  /** Shown by the server to operators. Default: `holdfast-queries-journal`. */
  readonly applicationName?: string | undefined
}

/** A listening connection that is dead is missed by nobody for so long: what it would have told is asked for anyway. */
const listenerCheck = Duration.minutes(1)

const decodeId = PgQueryRow.decode(Schema.Tuple([QueryId, Schema.String, Schema.Int]))

/** Makes a journal whose connections close with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const schema = yield* schemaOf(options)
  const channel = PgQuerySql.channelOf(schema)
  const statements = PgQuerySql.make(schema, channel)
  const limit = limitOf(options)
  const name = options.instance ?? `${hostname()}:${process.pid}`
  const beat = Duration.fromInputUnsafe(options.beat ?? "1150 millis")
  const lease = Duration.max(Duration.fromInputUnsafe(options.lease ?? "5 seconds"), Duration.times(beat, 3))
  const connection = config(options, limit)
  const where = PgTarget.whereOf(options.url)

  // Pools and operations end side by side: a pool waits for its connections, which operations give back when they end.
  const scope = yield* Ledger.hold(
    { kind: "query journal", id: where },
    Effect.sync(() => Scope.makeUnsafe("parallel")),
    Scope.close
  )
  const siblings = yield* Scope.provide(PgSiblings.make("queries", limit), scope)
  const open: PgSiblings.Siblings = (name, config) => Scope.provide(Effect.orDie(siblings(name, config)), scope)
  const readers = yield* Effect.orDie(
    open("readers", { ...connection, multiplex: true, maxConnections: options.maxConnections ?? 2 })
  )
  const writer = yield* Effect.orDie(open("writer", { ...connection, maxConnections: 1 }))
  // Its beat comes once a second, and tells by itself whether the connection is there.
  const keeper = yield* Effect.orDie(open("keeper", { ...connection, maxConnections: 1, isAsked: false }))
  const within = yield* Scope.provide(TimeLimit.make(limit, PgQueryRow.late), scope)
  const bare = (pool: PgSiblings.Connections) => (sql: string, params: ReadonlyArray<unknown>) =>
    pool.use((connection) =>
      // A standby answers for as long as it is asked: the next connection may lead to the primary.
      Effect.tapError(connection.queryValues(sql, params), (error) =>
        isStandby(error) ? pool.invalidate(connection) : Effect.void
      )
    )
  const asked = (pool: PgSiblings.Connections) => {
    const ask = bare(pool)
    return (sql: string, params: ReadonlyArray<unknown>) =>
      within(Effect.mapError(ask(sql, params), PgQueryRow.toQueryError))
  }
  const [read, keep] = [asked(readers), asked(keeper)]
  const news = PgQueryNews.make()

  // What is the registry's while one takes part.
  let registry: QueryJournal.Registry | undefined
  let takenOver = 0
  const sessions = new Map<QueryId, string>()

  const writing = yield* Scope.provide(
    PgQueryWriter.make({ statements, ask: bare(writer), isHeard: () => instance?.isAlone() !== true }),
    scope
  )
  /** Those who wait in this process are told at once. Where it is the only instance, there is nobody else to tell. */
  const change = (claim: QueryJournal.Claim, row: PgQueryRow.ChangeOf) =>
    Effect.tap(writing.change(claim, row), () => Effect.sync(() => news.tell(claim.id)))
  const notes = yield* Scope.provide(
    PgQueryNotes.make((claim, record) => change(claim, PgQueryRow.changeOf(claim, record))),
    scope
  )
  const pruning = yield* Scope.provide(
    PgQueryPruning.make({ statements, ask: keep, bounds: () => registry?.keptOfPrincipal }),
    scope
  )
  let instance: PgQueryInstance.PgQueryInstance | undefined
  const questions = yield* Scope.provide(
    PgQueryQuestions.make({
      statements,
      query: read,
      patience: Duration.times(limit, 2 / 3),
      incarnation: () => instance?.incarnation(),
      news: news.of
    }),
    scope
  )

  const claimOf = (id: QueryId): QueryJournal.Claim | undefined => {
    const incarnation = instance?.incarnation()
    return incarnation === undefined ? undefined : { id, incarnation, attempt: 1 }
  }

  const join = Effect.fnUntraced(function* (joining: QueryJournal.Registry) {
    registry = joining
    const own = yield* Effect.scope
    const takingOver = yield* FiberMap.make<string>()
    const take = yield* FiberMap.runtime(takingOver)<never>()
    const adopting = yield* FiberMap.make<QueryId>()
    const adopt = yield* FiberMap.runtime(adopting)<never>()
    const adopted = (claim: QueryJournal.Claim, work: QueryJournal.Work) =>
      Effect.sync(() => {
        const { session } = work.record
        if (session !== null) sessions.set(claim.id, session)
        adopt(claim.id, joining.adopt(claim, work))
      })
    const gone = (dead: string) =>
      Effect.sync(() => {
        const work = PgQueryTakeover.takeOver(dead, {
          statements,
          ask: keep,
          incarnation: () => instance?.incarnation(),
          beatMillis: Duration.toMillis(beat),
          registry: joining,
          adopted
        })
        take(
          dead,
          Effect.matchCauseEffect(work, {
            onSuccess: (isDone) => Effect.sync(() => (takenOver += isDone ? 1 : 0)),
            onFailure: (cause) =>
              LogEvent.debug(
                { event: "takeover.delayed" },
                "An instance that is gone cannot be taken over from yet",
                cause
              )
          }),
          { onlyIfMissing: true }
        )
      })
    instance = yield* PgQueryInstance.make({
      name,
      beat,
      lease,
      statements,
      ask: keep,
      became: (incarnation) => {
        writing.become(incarnation)
        if (incarnation === undefined) sessions.clear()
      },
      lost: joining.lost,
      gone,
      canceled: (ids) => {
        for (const id of ids) joining.cancel(id)
      },
      due: pruning.begin
    })
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        registry = undefined
      })
    )
    yield* PgListener.make({
      connection,
      channel,
      checkInterval: listenerCheck,
      answerWithin: limit,
      of: "queries",
      hears: "news of queries",
      kind: "query listener",
      id: where,
      told: (notifications) =>
        Effect.sync(() => {
          for (const { payload } of notifications) {
            const { canceled, changed, isAsked, isJoined } = PgQueryNews.parse(payload)
            if (isJoined) instance?.joined()
            if (isAsked) questions.asked()
            for (const id of changed) news.tell(id)
            for (const id of canceled) joining.cancel(id)
          }
        }),
      // What was told while nobody listened is asked for again.
      listens: (backend) =>
        Effect.andThen(
          instance?.listens(backend) ?? Effect.void,
          Effect.sync(() => {
            news.tellAll()
            questions.asked()
          })
        )
    }).pipe(Scope.provide(own))
  })

  const { enter, keyed } = PgQueryEntering.make({
    claimOf: (id) => (instance?.isValid() === true ? claimOf(id) : undefined),
    insert: (query) => within(writing.insert(PgQueryRow.insertOf(query))),
    readKey: (principal, key) => read(statements.keyed, [principal, key])
  })

  const over = (claim: QueryJournal.Claim) => {
    notes.forget(claim.id)
    sessions.delete(claim.id)
  }

  return {
    instance: name,
    now: () => instance?.now() ?? Date.now(),
    isValid: () => instance?.isValid() ?? false,
    standing: Effect.sync(() => ({
      instance: name,
      isValid: instance?.isValid() ?? false,
      lagMillis: instance?.lag() ?? 0,
      instances: instance?.instances() ?? 1,
      takenOver
    })),
    join,
    enter,
    keyed,
    begin: (claim, record) => change(claim, PgQueryRow.changeOf(claim, record)),
    note: notes.note,
    end: (claim, record, rows) =>
      Effect.suspend(() => {
        over(claim)
        pruning.touched(record.principal)
        return change(claim, PgQueryRow.changeOf(claim, record, { rows }))
      }),
    handOver: (claim, { record, statement }) =>
      Effect.suspend(() => {
        over(claim)
        return change(claim, PgQueryRow.changeOf(claim, record, { work: statement }))
      }),
    find: (principal, id) =>
      Effect.flatMap(read(statements.find, [id, principal]), ([row]) =>
        row === undefined ? Effect.succeed(undefined) : PgQueryRow.knownOf(row)
      ),
    list: (principal, wanted) => PgQueryRow.listed(wanted, read, statements.list, principal),
    news: news.of,
    cancel: (of) => {
      const [sql, params] =
        "session" in of
          ? [statements.cancelSession, [of.session]]
          : !("principal" in of)
            ? [statements.cancelAny, [of.id]]
            : of.id === undefined
              ? [statements.cancelPrincipal, [of.principal]]
              : [statements.cancelOne, [of.principal, of.id]]
      return Effect.flatMap(read(sql, params), (rows) =>
        Effect.forEach(rows, (row) => Effect.map(decodeId(row), ([id, principal]) => ({ id, principal })))
      )
    },
    register: (engine, handle) =>
      Effect.suspend(() => {
        const incarnation = instance?.incarnation()
        if (incarnation === undefined || instance?.isValid() !== true) return Effect.fail(PgQueryEntering.notJoined)
        return Effect.flatMap(keep(statements.register, [incarnation, engine, handle]), (rows) =>
          rows.length === 0 ? Effect.fail(PgQueryEntering.notJoined) : Effect.void
        )
      }),
    unregister: (engine, handles) =>
      Effect.suspend(() => {
        const incarnation = instance?.incarnation()
        return incarnation === undefined
          ? Effect.void
          : Effect.asVoid(keep(statements.unregister, [incarnation, engine, JSON.stringify(handles)]))
      }),
    prune: pruning.now,
    ask: questions.ask,
    answering: questions.answering,
    sessions: Effect.sync(() => Array.from(new Set(sessions.values())))
  } satisfies QueryJournal.Shared as QueryJournal.Shared
})

/** A journal in a database that has, or will have, the tables of {@link migrate}. */
export const layer = (options: Options): Layer.Layer<never> => Layer.effect(QueryJournal.QueryJournal, make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ url: Config.Redacted("DATABASE_URL") })`. */
export const layerConfig = (config: Config.Wrap<Options>): Layer.Layer<never, Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))

/**
 * Brings the tables up to date. Instances that start together apply each change once, and an older instance beside a newer one
 * goes on.
 *
 * The role needs the right to create the schema, or to create tables in one that exists. Fails with `QueriesUnavailable` where
 * the database cannot be reached, or another program holds the tables for 30 seconds: then run it again later.
 */
export const migrate = Effect.fn("PgQueryJournal.migrate")(function* (options: Options) {
  const schema = yield* schemaOf(options)
  yield* PgQueryMigrations.run(config(options, limitOf(options), migrationTimeout), schema).pipe(
    Effect.mapError((error) =>
      isSqlError(error)
        ? PgQueryRow.toQueryError(error)
        : PgQueryRow.unavailable(`The tables of queries cannot be made: ${error.message}`)
    ),
    Effect.timeoutOrElse({
      duration: migrationTimeout,
      orElse: () => Effect.fail(PgQueryRow.late(Duration.format(migrationTimeout)))
    })
  )
})
