/**
 * Sessions in PostgreSQL, for any number of instances of a program.
 *
 * The store's connections live as long as its layer. The layer is built also while the database is away, and operations
 * fail with `SessionsUnavailable` until it is back. The tables are made by {@link migrate}, which the program runs when it
 * starts and as often as it takes.
 *
 * **Details**
 *
 * Half of the connections read and load, which never waits for a lock, many statements on one connection at a time. The
 * other half write, one at a time, so that one that waits for a lock holds up no load. Loads of concurrent requests
 * travel together, and so do changes of data. One more connection listens for the ends of sessions.
 *
 * An operation that is interrupted goes on in the background, within the same time limit.
 *
 * **Gotchas**
 *
 * A store never takes part in a transaction of the program, also when it is used within one. It needs PostgreSQL 14, and
 * connections that let it set parameters (a pooler in front in session mode, or none).
 *
 * Install `@effect/sql-pg` beside Holdfast.
 */
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { type SqlError, isSqlError } from "effect/sql/SqlError"
import * as Ledger from "../lifetime/Ledger.ts"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import * as TimeLimit from "../lifetime/TimeLimit.ts"
import {
  connectionOf,
  isStandby,
  late,
  migrationTimeout,
  type Options,
  limitOf,
  schemaOf,
  toSessionError,
  unavailable
} from "./internal/PgSessionConfig.ts"
import * as PgSessionEnds from "./internal/PgSessionEnds.ts"
import * as PgSessionLoads from "./internal/PgSessionLoads.ts"
import * as SessionPages from "../session/internal/SessionPages.ts"
import * as SessionMemory from "../session/internal/SessionMemory.ts"
import { bytes, nonce } from "./internal/PgSessionLogins.ts"
import * as PgSessionLogins from "./internal/PgSessionLogins.ts"
import * as PgSessionMigrations from "./internal/PgSessionMigrations.ts"
import * as PgSessionPruned from "./internal/PgSessionPruned.ts"
import * as PgSessionRow from "./internal/PgSessionRow.ts"
import * as PgSessionSql from "./internal/PgSessionSql.ts"
import * as PgSessionUpdates from "./internal/PgSessionUpdates.ts"
import * as PgSiblings from "./internal/PgSiblings.ts"
import * as PgTarget from "./internal/PgTarget.ts"
import * as SessionCipher from "../session/SessionCipher.ts"
import { principalOf } from "../session/SessionRecord.ts"
import { type Expiry, type Renewal, SessionStore, type Update, type VisitorsAfter } from "../session/SessionStore.ts"
import * as SessionPruning from "../session/SessionPruning.ts"
import type { TokenHash } from "../session/SessionToken.ts"

export type { Options } from "./internal/PgSessionConfig.ts"

/** Makes a store whose connections close with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const schema = yield* schemaOf(options)
  const cipher = yield* Effect.orDie(SessionCipher.make(options.keys))
  const channel = PgSessionSql.channelOf(schema)
  const statements = PgSessionSql.make(schema, channel)
  const limit = limitOf(options)
  const clock = yield* Clock.Clock
  const max = Math.max(options.maxConnections ?? 10, 2)
  const config = connectionOf(options, limit, limit)

  // Pools and operations end side by side: a pool waits for its connections, which operations give back when they end.
  const scope = yield* Ledger.hold(
    { kind: "session store", id: PgTarget.whereOf(options.url) },
    Effect.sync(() => Scope.makeUnsafe("parallel")),
    Scope.close
  )
  const siblings = yield* Scope.provide(PgSiblings.make("sessions", limit), scope)
  const open: PgSiblings.Siblings = (name, config) => Scope.provide(Effect.orDie(siblings(name, config)), scope)
  const readers = yield* Effect.orDie(
    open("readers", { ...config, multiplex: true, maxConnections: Math.floor(max / 2) })
  )
  const writers = yield* Effect.orDie(open("writers", { ...config, maxConnections: Math.ceil(max / 2) }))

  const ended = yield* PgSessionEnds.make({
    connection: config,
    channel,
    checkInterval: Duration.fromInputUnsafe(options.listenerCheck ?? "4 seconds"),
    answerWithin: limit,
    id: PgTarget.whereOf(options.url)
  }).pipe(Scope.provide(scope))

  const within = yield* Scope.provide(TimeLimit.make(limit, late), scope)
  const bounded = <A>(work: Effect.Effect<A, SqlError>) => within(Effect.mapError(work, toSessionError))

  // A standby answers for as long as it is asked: the next connection may lead to the primary.
  const orAnother =
    (pool: PgSiblings.Connections, connection: PgConnection) =>
    <A>(work: Effect.Effect<A, SqlError>) =>
      Effect.tapError(work, (error) => (isStandby(error) ? pool.invalidate(connection) : Effect.void))

  const read = (sql: string, params: ReadonlyArray<unknown>) =>
    bounded(readers.use((connection) => orAnother(readers, connection)(connection.queryValues(sql, params))))
  const write = (sql: string, params: ReadonlyArray<unknown>) =>
    bounded(writers.use((connection) => orAnother(writers, connection)(connection.queryValues(sql, params))))

  // The connection of a transaction that did not succeed is closed, and the server rolls back. `withTransaction` of the
  // driver's client would wait without limit for the answer to BEGIN where the network is gone.
  const transaction = <A>(work: (connection: PgConnection) => Effect.Effect<A, SqlError>) =>
    bounded(
      writers.use((connection) =>
        connection.query("begin").pipe(
          Effect.andThen(work(connection)),
          Effect.tap(() => connection.query("commit")),
          Effect.onError(() => writers.invalidate(connection))
        )
      )
    )

  // Owed activity was skipped because somebody was writing the row. If that was not another touch, nobody would note it,
  // and the session would end too early.
  const settle = (token: TokenHash) =>
    write(statements.settle, [bytes(token)]).pipe(
      Effect.andThen(read(statements.load, [bytes(token)])),
      Effect.flatMap(([row]) => Effect.fromResult(PgSessionRow.loaded(row, cipher.open))),
      Effect.map(({ record }) => record)
    )

  const batched = (sql: string) => (tokens: ReadonlyArray<TokenHash>) =>
    Effect.map(read(sql, [Buffer.from(tokens.join(""), "hex")]), PgSessionRow.inPlace)
  const load = yield* Scope.provide(
    PgSessionLoads.make({
      concurrency: Math.floor(max / 2),
      within,
      find: batched(statements.find),
      confirm: batched(statements.confirm),
      memory: SessionMemory.make(options.rememberedBytes ?? 16 * 1024 * 1024, () => SteadyClock.millis(clock)),
      load: batched(statements.load),
      open: cipher.open,
      settle
    }),
    scope
  )

  const touch = Effect.fn("PgSessionStore.touch")(function* (token: TokenHash) {
    const [row] = yield* read(statements.touch, [bytes(token)])
    const owed = yield* Effect.fromResult(PgSessionRow.touched(row))
    if (owed) yield* write(statements.settle, [bytes(token)])
  })

  const { authenticate, create, refusal, rotate } = yield* Scope.provide(
    PgSessionLogins.make({
      statements,
      read,
      write,
      transaction,
      cipher,
      concurrency: Math.max(Math.floor(max / 2), 1),
      within
    }),
    scope
  )

  const renew = Effect.fn("PgSessionStore.renew")(function* ({ next, token }: Renewal) {
    const [row] = yield* write(statements.renew, [bytes(token), bytes(next), nonce()])
    if (row === undefined) return yield* refusal(token)
    return yield* Effect.fromResult(PgSessionRow.record(row, cipher.open))
  })

  const setExpiry = Effect.fn("PgSessionStore.setExpiry")(function* ({ absoluteTimeout, id, idleTimeout }: Expiry) {
    const times = [Duration.toMillis(idleTimeout), Duration.toMillis(absoluteTimeout)]
    const [row] = yield* write(statements.setExpiry, [id, ...times])
    if (row !== undefined) return yield* Effect.fromResult(PgSessionRow.record(row, cipher.open))
    const [standing] = yield* read(statements.standing, [id])
    return yield* PgSessionRow.standing(standing)
  })

  const change = yield* Scope.provide(
    PgSessionUpdates.make({
      concurrency: Math.max(Math.floor(max / 4), 1),
      within,
      open: cipher.open,
      updateFree: (changes) =>
        Effect.map(write(statements.updateFree, PgSessionUpdates.columns(changes)), PgSessionRow.inPlace),
      update: Effect.fnUntraced(function* ({ dataVersion, id, json, version }) {
        const [row] = yield* write(statements.update, [id, version, json, dataVersion])
        if (row !== undefined) return yield* Effect.fromResult(PgSessionRow.record(row, cipher.open))
        const [standing] = yield* read(statements.standing, [id])
        return yield* PgSessionRow.standing(standing)
      })
    }),
    scope
  )
  const update = Effect.fn("PgSessionStore.update")(({ data, dataVersion, id, version }: Update) =>
    change({ id, version, json: cipher.seal(id, JSON.stringify(data)), dataVersion })
  )

  const revokeAll: SessionStore["Service"]["revokeAll"] = Effect.fn("PgSessionStore.revokeAll")(
    function* (principal, options) {
      const name = yield* principalOf(principal)
      const rows = yield* transaction((connection) =>
        Effect.andThen(
          connection.query(statements.beginEpoch, [name]),
          connection.queryValues(statements.revokeAll, [name, options?.except ?? null])
        )
      )
      return yield* PgSessionRow.ids(rows)
    }
  )

  const list = Effect.fn("PgSessionStore.list")(function* (principal: string) {
    return yield* PgSessionRow.readable(yield* read(statements.list, [yield* principalOf(principal)]), cipher.open)
  })

  const visitors = Effect.fn("PgSessionStore.visitors")(function* ({ after, limit }: VisitorsAfter) {
    const rows = yield* read(statements.visitors, [(yield* SessionPages.after(after)) ?? null, limit])
    const { hasSession, next } = yield* Effect.fromResult(PgSessionRow.visitorPage(rows[0]))
    return { next, sessions: hasSession ? yield* PgSessionRow.readable(rows, cipher.open, 2) : [] }
  })

  const pruned = PgSessionPruned.make()
  const prune = Effect.fn("PgSessionStore.prune")(function* (limit: number) {
    yield* write(statements.prunePrincipals, [limit])
    const [row] = yield* write(statements.prune, [limit, pruned.from()])
    const { sessions, took, upTo } = yield* Effect.fromResult(PgSessionRow.pruned(row))
    pruned.note({ sessions, isFull: sessions >= limit, upTo, at: clock.monotonicTimeNanosUnsafe() })
    return { sessions, took }
  })

  return SessionStore.of({
    // Both unless an operator turned `fsync` or `synchronous_commit` off; with `synchronous_standby_names`, also a failover's.
    capabilities: { sharedBy: "instances", afterCrash: "kept", afterFailover: "as configured", eviction: "never" },
    create,
    load,
    touch,
    update,
    renew,
    authenticate,
    rotate,
    setExpiry,
    revoke: (id) => Effect.map(write(statements.revoke, [id]), (rows) => rows.length > 0),
    revokeAll,
    epoch: (principal) =>
      principalOf(principal).pipe(
        Effect.flatMap((name) => read(statements.epoch, [name])),
        Effect.flatMap(([row]) => Effect.fromResult(PgSessionRow.epoch(row)))
      ),
    list,
    visitors,
    endedOf: (ids) => Effect.flatMap(read(statements.endedOf, [ids]), PgSessionRow.ids),
    ended,
    prune,
    pruneLag: Effect.flatMap(
      Effect.suspend(() => read(statements.pruneLag, [pruned.from()])),
      ([row]) => Effect.fromResult(PgSessionRow.lag(row))
    ),
    ping: Effect.flatMap(read(statements.ping, []), ([row]) => Effect.fromResult(PgSessionRow.moment(row)))
  })
})

/** Sessions in a database that has, or will have, the tables of {@link migrate}; what is over for a day is pruned. */
export const layer = (options: Options): Layer.Layer<SessionStore> =>
  SessionPruning.withStore(Layer.effect(SessionStore, make(options)), options.pruning)

/** As {@link layer}, from wrapped configuration: `layerConfig({ url: Config.Redacted("DATABASE_URL") })`. */
export const layerConfig = (config: Config.Wrap<Options>): Layer.Layer<SessionStore, Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))

/**
 * Brings the store's tables up to date. Instances that start together apply each change once.
 *
 * The role needs the right to create the schema, or to create tables in one that exists. Fails with `SessionsUnavailable`
 * where the database cannot be reached, or another program holds the tables for 30 seconds: then run it again later.
 */
export const migrate = Effect.fn("PgSessionStore.migrate")(function* (options: Options) {
  const schema = yield* schemaOf(options)
  const limit = limitOf(options)
  yield* PgSessionMigrations.run(connectionOf(options, limit, migrationTimeout), schema).pipe(
    Effect.mapError((error) => (isSqlError(error) ? toSessionError(error) : unavailable(error))),
    Effect.timeoutOrElse({
      duration: migrationTimeout,
      orElse: () => Effect.fail(late(Duration.format(migrationTimeout)))
    })
  )
})
