/**
 * PgBouncer between Holdfast and the server: in session mode everything holds that holds without it, and the other modes are
 * refused with a sentence.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as Connection from "../../src/connection/Connection.ts"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as PgConnectionPool from "../../src/postgres/PgConnectionPool.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgRecycle from "../../src/postgres/PgRecycle.ts"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import { inspect } from "node:util"
import { busyBackends, eventually } from "../support/conditions.ts"
import { pgBouncer } from "../support/pgBouncer.ts"
import { freshDatabase } from "../support/postgres.ts"
import { launch, listening } from "../support/service.ts"
import { instance } from "../support/sessions.ts"
import { create, session } from "../../src/testing/internal/SessionSamples.ts"

/** What our connections rely on, as a borrower finds it. */
const settings = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<Readonly<Record<string, string>>>`select current_setting('statement_timeout') as statements,
    current_setting('idle_in_transaction_session_timeout') as idle,
    current_setting('client_connection_check_interval') as clients, current_setting('bytea_output') as bytea,
    current_setting('search_path') as path`
).pipe(
  Effect.map(([row]) => row),
  Effect.provide(Connection.layer)
)

const asked = { statements: "7s", idle: "9s", clients: "1s", bytea: "hex", path: "public" }

const poolOf = (url: Redacted.Redacted<string>, recycle = PgRecycle.complete) =>
  Layer.fresh(ConnectionPool.layer({ max: 1 })).pipe(
    Layer.provide(
      PgConnectionSource.layer({
        url,
        recycle,
        statementTimeout: "7 seconds",
        idleInTransactionTimeout: "9 seconds",
        settings: { search_path: "public" }
      })
    )
  )

/** A borrower that changes what the next one must find as it was. */
const spoil = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`select set_config('statement_timeout', '1ms', false), set_config('bytea_output', 'escape', false)`
).pipe(Effect.ignore, Effect.provide(Connection.layer))

describe("a pooler that keeps a session together", () => {
  it.live("C3 what connections rely on holds from the first borrower to the last, in every recipe", () =>
    Effect.gen(function* () {
      const { url: direct } = yield* freshDatabase
      for (const ignored of [
        "",
        "client_connection_check_interval,statement_timeout,idle_in_transaction_session_timeout,bytea_output,IntervalStyle,extra_float_digits,search_path"
      ]) {
        const { url } = yield* pgBouncer(direct, {
          pool_mode: "session",
          ...(ignored !== "" && { ignore_startup_parameters: ignored })
        })
        for (const recycle of [PgRecycle.complete, PgRecycle.foreign]) {
          yield* Effect.gen(function* () {
            assert.deepInclude(yield* settings, asked)
            yield* spoil
            assert.deepInclude(yield* settings, asked)
          }).pipe(Effect.provide(poolOf(url, recycle)))
        }
      }
    }).pipe(Effect.scoped)
  )

  it.live("Q2 a cancel and C10 a long silence mean the backend that runs the statement", () =>
    Effect.gen(function* () {
      const { name, url: direct } = yield* freshDatabase
      const { url } = yield* pgBouncer(direct, { pool_mode: "session" })
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        // Longer than silence lasts before the server is asked about it.
        const long = yield* Effect.forkChild(
          Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select pg_sleep(7)`).pipe(Effect.provide(Connection.layer))
        )
        const shared = yield* Effect.forkChild(sql`select pg_sleep(7)`)
        const cancelled = yield* Effect.forkChild(
          Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select pg_sleep(600)`).pipe(Effect.provide(Connection.layer))
        )
        yield* eventually(busyBackends(name), (busy) => busy.length === 3)
        yield* Fiber.interrupt(cancelled)
        // Those that go on, and for a moment the connection that is made as good as new, or the one that asks about a long silence.
        yield* eventually(busyBackends(name), (busy) => busy.length === 2)
        yield* Fiber.join(long)
        yield* Fiber.join(shared)
      }).pipe(Effect.provide(PgConnectionPool.layer({ url, max: 3, sharedConnections: 1 })))
    }).pipe(Effect.scoped)
  )

  it.live("S1 S9 sessions are stored, read and ended, and the end is heard of", () =>
    Effect.gen(function* () {
      const { url: direct } = yield* freshDatabase
      const { url } = yield* pgBouncer(direct, { pool_mode: "session" })
      yield* PgSessionStore.migrate({ url })
      const store = yield* instance({ url, maxConnections: 4 })
      const wanted = session()
      const { id } = yield* create(store, wanted)
      assert.strictEqual((yield* store.load(wanted.token)).id, id)
      yield* store.revoke(id)
      assert.deepStrictEqual(yield* store.endedOf([id]), [id])
    }).pipe(Effect.scoped)
  )
})

describe("a pooler that gives each transaction another backend", () => {
  for (const mode of ["transaction", "statement"] as const) {
    it.live(`is refused with a sentence: ${mode}`, () =>
      Effect.gen(function* () {
        const { url: direct } = yield* freshDatabase
        const { url } = yield* pgBouncer(direct, { pool_mode: mode })
        const refused = yield* Effect.flip(settings.pipe(Effect.provide(poolOf(url))))
        assert.match(refused.message, /gives each transaction another backend.*Set pool_mode = session/i)
        const store = yield* Effect.flip(PgSessionStore.migrate({ url }))
        assert.include(inspect(store, { depth: 9 }), "pool_mode = session")
      }).pipe(Effect.scoped)
    )
  }

  it.live("is told to the operator once, and the service is not ready", () =>
    Effect.gen(function* () {
      const { url: own } = yield* freshDatabase
      const { url: direct } = yield* freshDatabase
      const { url } = yield* pgBouncer(direct, { pool_mode: "transaction" })
      const service = yield* launch({
        args: ["serve"],
        env: { PORT: "0", DATABASE_URL: Redacted.value(own), HOLDFAST_QUERY_URL: Redacted.value(url) }
      })
      const at = yield* listening(service)
      const told = yield* eventually(
        Effect.promise(async () => {
          const { status } = await fetch(`${at}/health/ready`)
          return { status, said: service.stderr() + service.stdout() }
        }),
        ({ said }) => said.includes("pool_mode = session")
      )
      assert.strictEqual(told.status, 503)
      assert.lengthOf(told.said.match(/pool_mode = session/g) ?? [], 1)
    }).pipe(Effect.scoped)
  )
})
