/**
 * What the tests of connections share: a pool on a database of its own, an account of its own, and a witness who asks the
 * server itself.
 *
 * A world lives as long as the test; a pool in it as long as one run of it.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Pool from "effect/Pool"
import type * as Redacted from "effect/Redacted"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import * as Connection from "../../src/connection/Connection.ts"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import * as Query from "../../src/query/Query.ts"
import type { QueryDriver } from "../../src/query/QueryDriver.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { eventually } from "./conditions.ts"
import { freshDatabase, superuserUrl } from "./postgres.ts"

export type Settings = ConnectionPool.Options & Omit<PgConnectionSource.Options, "url">

/** What a pool offers to a test. */
export type Pooled = ConnectionPool.ConnectionPool | QueryDriver

/** A pool over a URL, and the driver of queries on it. */
export const layerOf = (url: Redacted.Redacted<string>, settings: Settings = {}) =>
  PgQueryDriver.layer.pipe(
    Layer.provideMerge(ConnectionPool.layer(settings)),
    Layer.provide(PgConnectionSource.layer({ ...settings, url })),
    // Inside another pool, the driver would otherwise be that one's: its layer is the same.
    Layer.fresh
  )

/** One backend, as `pg_stat_activity` has it. */
export interface Backend {
  readonly pid: number
  readonly state: string | null
  readonly query: string
}

/** Somebody who asks the server, over a direct connection to another database. */
export interface Witness {
  /** Every backend of the database, whoever opened it. */
  readonly backends: Effect.Effect<ReadonlyArray<Backend>>
  /** Those that run something, or hold a transaction open. */
  readonly busy: Effect.Effect<ReadonlyArray<Backend>>
  /** The process ids that hold advisory locks in the database. */
  readonly lockers: Effect.Effect<ReadonlyArray<number>>
  /** What became of the connections to the database so far, as the server counted them when they were over. */
  readonly sessions: Effect.Effect<{ readonly all: number; readonly abandoned: number; readonly killed: number }>
  readonly terminate: (pid: number) => Effect.Effect<void>
}

/** A database with nobody in it, and its witness. */
export class World extends Context.Service<
  World,
  { readonly url: Redacted.Redacted<string>; readonly witness: Witness }
>()("test/World") {}

const witnessOf = Effect.fnUntraced(function* (database: string) {
  const connection = yield* PgConnection.make({ url: yield* superuserUrl, applicationName: "witness" })
  const ask = <Row>(sql: string, params: ReadonlyArray<unknown> = [database]) =>
    Effect.map(Effect.orDie(connection.query(sql, params)), ({ rows }) => rows as unknown as ReadonlyArray<Row>)
  const backends = ask<Backend>(
    "select pid, state, query from pg_stat_activity where datname = $1 and backend_type = 'client backend' order by pid"
  )
  const witness: Witness = {
    backends,
    busy: Effect.map(backends, (all) => all.filter(({ state }) => state !== "idle" && state !== null)),
    lockers: Effect.map(
      ask<{ readonly pid: number }>(
        `select pid from pg_locks where locktype = 'advisory' and granted
          and database = (select oid from pg_database where datname = $1)`
      ),
      (rows) => rows.map(({ pid }) => pid)
    ),
    sessions: Effect.map(
      ask<{ all: number; abandoned: number; killed: number }>(
        `select sessions::int as all, sessions_abandoned::int as abandoned, sessions_killed::int as killed
          from pg_stat_database where datname = $1`
      ),
      ([row]) => row ?? { all: 0, abandoned: 0, killed: 0 }
    ),
    terminate: (pid) => Effect.asVoid(ask("select pg_terminate_backend($1)", [pid]))
  }
  return witness
})

const makeWorld = Effect.gen(function* () {
  const { name, url } = yield* freshDatabase
  return World.of({ url, witness: yield* witnessOf(name) })
})

/** A world for a group of tests that run one after the other. */
export const layerWorld = Layer.effect(World, makeWorld)

/** Worlds for a group of tests that run side by side: making a database costs more than most tests. */
export class Worlds extends Context.Service<Worlds, Pool.Pool<World["Service"], SqlError>>()("test/Worlds") {}

/** As many as tests run at a time. */
export const layerWorlds = Layer.effect(Worlds, Pool.make({ acquire: makeWorld, size: 5 }))

/** Runs a test in a world and with an account that are its own. */
export const inWorld = <A, E, R>(test: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const world = yield* Pool.get(yield* Worlds)
    const rest = Effect.flatMap(world.witness.backends, (all) =>
      Effect.forEach(all, ({ pid }) => world.witness.terminate(pid))
    )
    return yield* Effect.provideService(Effect.ensuring(test, rest), World, world)
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))

/** Nothing is held, as much was closed as was opened, and the server has no backend of ours. */
export const assertOver = Effect.fnUntraced(function* (witness: Witness) {
  yield* LedgerRecorder.assertEmpty()
  yield* eventually(witness.backends, (backends) => backends.length === 0, "3 seconds")
})

/** One request: its own connection, an ordinary client, gone afterwards. */
export const request = <A, E, R>(use: (sql: SqlClient.SqlClient) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(SqlClient.SqlClient, use).pipe(Effect.scoped, Effect.provide(Connection.layer))

/** A lease that lasts until it is released. */
export const held = Effect.gen(function* () {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const lease = yield* Scope.provide((yield* ConnectionPool.ConnectionPool).lease({ key: "holder" }), scope)
  return { ...lease, release: Scope.close(scope, Exit.void) }
})

export const stats = Effect.flatMap(ConnectionPool.ConnectionPool, ({ stats }) => stats)

export const nobodyWaitsOrHolds = Effect.map(stats, (now) => assert.deepInclude(now, { leased: 0, waiting: 0 }))

/** A statement that runs for as long as it is let. */
export const sleep = "select pg_sleep(60)"

/** A statement run as a query: one whose cancel is given up after a second. */
export const query = (sql: string) =>
  Effect.flatMap(Query.Query, ({ rows }) => Stream.runCollect(rows)).pipe(Effect.provide(Query.layer(sql)))

export const pid = (sql: SqlClient.SqlClient) =>
  Effect.map(sql`select pg_backend_pid()::text as pid`, ([row]) => String(row?.["pid"]))

/** Waits until the server runs so many statements that contain a text. */
export const running = (witness: Witness, text: string, count = 1) =>
  eventually(witness.busy, (busy) => busy.filter(({ query }) => query.includes(text)).length === count)

/** Forks a borrower, and interrupts it at a moment that differs from step to step of a sweep. */
export const interruptSometime = <A, E, R>(borrower: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const step = yield* Scheduler.MaxOpsBeforeYield
    const fiber = yield* Effect.forkChild(borrower)
    yield* Effect.repeat(Effect.yieldNow, { times: (step % 7) * 150 + (step % 5) })
    yield* Fiber.interrupt(fiber)
  })

/** What is seen in the account of the leases and backends since the recording began. */
export const ofKind = (recorder: LedgerRecorder.LedgerRecorder, kind: string) => {
  const changes = recorder.changes().filter((change) => change.kind === kind)
  const keys = new Set(changes.map(({ key }) => key))
  const of = (event: Ledger.Change["event"]) => changes.filter((change) => change.event === event)
  return {
    taken: of("acquired").length,
    released: of("released").length,
    /** Each entry was acquired and released, both once. */
    onceEach: Array.from(keys).every((key) =>
      (["acquired", "released"] as const).every(
        (event) => of(event).filter((change) => change.key === key).length === 1
      )
    )
  }
}

export type InPool<A = void, E = unknown> = Effect.Effect<A, E, Pooled | World | Scope.Scope>
