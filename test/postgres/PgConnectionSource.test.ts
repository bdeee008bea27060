/** What a source of PostgreSQL connections does with its options, on the real server. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as Connection from "../../src/connection/Connection.ts"
import { ConnectionError } from "../../src/connection/ConnectionError.ts"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import type { QueryDriver } from "../../src/query/QueryDriver.ts"
import * as SkewedClock from "../../src/testing/SkewedClock.ts"
import { eventually } from "../support/conditions.ts"
import { query, request, stats } from "../support/connections.ts"
import { administer } from "../support/service.ts"
import { freshDatabase } from "../support/postgres.ts"

type Options = ConnectionPool.Options & Omit<PgConnectionSource.Options, "url">

const withPool = <A, E>(
  options: Options,
  test: Effect.Effect<A, E, ConnectionPool.ConnectionPool | QueryDriver | Scope.Scope>,
  change: (url: URL) => void = () => {}
) =>
  Effect.gen(function* () {
    const url = new URL(Redacted.value((yield* freshDatabase).url))
    change(url)
    const source = PgConnectionSource.layer({ ...options, url: Redacted.make(url.href) })
    return yield* test.pipe(
      Effect.scoped,
      Effect.provide(
        PgQueryDriver.layer.pipe(Layer.provideMerge(ConnectionPool.layer(options)), Layer.provide(source), Layer.fresh)
      )
    )
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))

const show = (name: string) =>
  request((sql) =>
    Effect.map(sql.unsafe(`show ${name}`), ([row]) => (row as Record<string, unknown> | undefined)?.[name])
  )

const backend = request((sql) => sql`select pg_backend_pid() as pid`)

describe("limits that the server enforces", () => {
  it.live("a transaction that is idle for longer than it may is ended; a minute where nothing is said", () =>
    Effect.gen(function* () {
      const name = "idle_in_transaction_session_timeout"
      assert.strictEqual(yield* withPool({}, show(name)), "1min")
      const short = { idleInTransactionTimeout: "200 millis" } as const
      assert.strictEqual(yield* withPool(short, show(name)), "200ms")
      const exit = yield* withPool(
        short,
        Effect.exit(request((sql) => sql.withTransaction(Effect.andThen(sql`select 1`, Effect.sleep("600 millis")))))
      )
      assert.isTrue(Exit.isFailure(exit))
    })
  )

  it.live("a statement that is done keeps no deadline: its connection stays for as long as the lease", () =>
    SkewedClock.fast(
      4,
      withPool(
        { max: 1, statementTimeout: "1 second", connectTimeout: "1 minute", acquireTimeout: "1 minute" },
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const [before] = yield* sql`select pg_backend_pid() as pid`
          // The answer of a statement is given up 5 seconds after its own limit.
          yield* Effect.sleep("12 seconds")
          const [after] = yield* sql`select pg_backend_pid() as pid`
          assert.deepStrictEqual(after, before)
          assert.deepInclude(yield* stats, { zombies: 0, open: 1 })
        }).pipe(Effect.provide(Connection.layer))
      )
    )
  )
})

describe("a password that is asked for", () => {
  it.live("is asked for on each connect, and takes the place of the one in the URL", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const right = Redacted.make(decodeURIComponent(new URL(Redacted.value(url)).password))
      let asked = 0
      const password = Effect.sync(() => {
        asked++
        return right
      })
      yield* withPool(
        { max: 2, password },
        Effect.gen(function* () {
          const [first] = yield* backend
          const before = asked
          assert.isAtLeast(before, 1)
          yield* (yield* ConnectionPool.ConnectionPool).evictAll
          const [second] = yield* backend
          assert.notDeepEqual(second, first)
          assert.strictEqual(asked, before + 1)
        }),
        (url) => {
          url.password = "wrong"
        }
      )
    }).pipe(Effect.scoped)
  )

  it.live("is an error of the connection where there is none", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(withPool({ password: Effect.fail(new Error("no token")) }, backend))
      assert.instanceOf(error, ConnectionError)
      assert.strictEqual(error.reason._tag, "Unavailable")
      assert.match(error.message, /no token/)
    })
  )
})

describe("what runs on each new connection", () => {
  it.live("is done before it is lent", () =>
    Effect.gen(function* () {
      const onOpen = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`create temporary table once as select 1 as one`)
      assert.deepStrictEqual(
        yield* withPool(
          { onOpen },
          request((sql) => sql`select one from once`)
        ),
        [{ one: 1 }]
      )
    })
  )
})

describe("a lease that lasts for longer than it may", () => {
  const reasonOf = (error: unknown): unknown =>
    error instanceof Error && "reason" in error
      ? (error.reason as { readonly _tag: string; readonly cause?: unknown })
      : undefined

  it.live("has its statement ended, and the statement says why, as does each one after it", () =>
    withPool(
      { max: 1, maxLease: "500 millis" },
      Effect.gen(function* () {
        const begun = performance.now()
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          for (const statement of [sql`select pg_sleep(60)`, sql`select 1`]) {
            const error = yield* Effect.flip(statement)
            const cause = (reasonOf(error) as { readonly cause: unknown }).cause
            assert.instanceOf(cause, ConnectionError)
            assert.strictEqual(cause.reason._tag, "LeaseExpired")
          }
        }).pipe(Effect.provide(Connection.layer))
        assert.isBelow(performance.now() - begun, 5000)
        yield* backend
        yield* eventually(stats, ({ zombies }) => zombies === 0)
      })
    )
  )

  it.live("has its query ended, which says so without naming the server", () =>
    withPool(
      { max: 1, maxLease: "500 millis" },
      Effect.gen(function* () {
        const error = yield* Effect.flip(query("select pg_sleep(60)"))
        assert.strictEqual(error.reason._tag, "QueriesUnavailable")
        assert.match(error.message, /held for longer than 500 ms/)
        assert.notMatch(error.message, /127\.0\.0\.1|localhost/)
        yield* backend
      })
    )
  )
})

describe("a role that may have fewer connections than the pool", () => {
  it.live("all queries run on those it may have, and the messages name no host", () =>
    Effect.gen(function* () {
      yield* administer("create role few login password 'few' connection limit 3")
      yield* Effect.addFinalizer(() => Effect.orDie(administer("drop role if exists few")))
      const asFew = (url: URL) => {
        url.username = "few"
        url.password = "few"
      }
      yield* withPool(
        { max: 10 },
        Effect.gen(function* () {
          yield* Effect.forEach(Array.from({ length: 12 }), () => query("select pg_sleep(0.1)"), {
            concurrency: "unbounded"
          })
          const { leased, open } = yield* stats
          assert.strictEqual(leased, 0)
          // Some that came together may have been refused together.
          assert.isTrue(open >= 1 && open <= 3, String(open))
          yield* (yield* ConnectionPool.ConnectionPool).ping
        }),
        asFew
      )
      yield* administer("alter role few connection limit 0")
      const error = yield* Effect.flip(withPool({ acquireTimeout: "1 second" }, query("select 1"), asFew))
      assert.match(error.message, /takes no more connections/)
      assert.notMatch(error.message, /127\.0\.0\.1|localhost|:\d+/)
    }).pipe(Effect.scoped)
  )
})
