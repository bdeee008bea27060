// Tests of a program that uses Holdfast. Each one is the body of a test: it.live("…", () => aReportEndsWithItsSession)
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Fiber, Layer, Ref, Schedule, Schema, Stream } from "effect"
import { HttpBody, HttpClient, type Cookies } from "effect/http"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { Connection, ConnectionPool, Ledger, MemorySessionStore, Query, QueryError, Session, Sessions } from "holdfast"
import type { SessionStore, SessionToken } from "holdfast"
import * as PgConnectionSource from "holdfast/postgres/PgConnectionSource"
import * as PgSessionStore from "holdfast/postgres/PgSessionStore"
import * as RedisSessionStore from "holdfast/redis/RedisSessionStore"
import * as FaultProxy from "holdfast/testing/FaultProxy"
import * as InterruptSweep from "holdfast/testing/InterruptSweep"
import * as LedgerRecorder from "holdfast/testing/LedgerRecorder"
import * as TestPostgres from "holdfast/testing/TestPostgres"
import * as TestRedis from "holdfast/testing/TestRedis"
import * as ScriptedConnectionSource from "holdfast/testing/ScriptedConnectionSource"
import * as ScriptedQueryDriver from "holdfast/testing/ScriptedQueryDriver"
import * as assert from "node:assert/strict"
import { app } from "./memory-app.ts"

// #region browser
/** A client with cookies of its own, as a browser has. */
const browser = Effect.gen(function* () {
  const cookies = yield* Ref.make<ReadonlyArray<Cookies.Cookie>>([])
  return HttpClient.withCookiesRef(yield* HttpClient.HttpClient, cookies)
})

/** Waits until the program holds something of this kind. It waits for a condition, never for a time. */
const holds = (kind: string) =>
  Effect.gen(function* () {
    const ledger = yield* Ledger.Ledger
    const isHeld = Effect.map(ledger.holdings, (all) => all.some((holding) => holding.kind === kind))
    yield* Effect.repeat(isHeld, { until: (held) => held, schedule: Schedule.spaced("5 millis") })
  }).pipe(Effect.timeout("10 seconds"))
// #endregion

// #region app
const alice = HttpBody.jsonUnsafe({ username: "alice", password: "wonderland" })

/** The app on a real server with a free port, and with sessions of its own. */
const layerTest = app.pipe(Layer.provideMerge(NodeHttpServer.layerTest))

export const aReportEndsWithItsSession = Effect.gen(function* () {
  yield* Effect.gen(function* () {
    const client = yield* browser
    yield* client.post("/login", { body: alice })
    const report = yield* Effect.forkChild(client.get("/report"))
    yield* holds("handle")
    yield* client.post("/logout")
    const { status } = yield* Fiber.join(report)
    assert.equal(status, 401)
  }).pipe(Effect.provide(layerTest))
  yield* LedgerRecorder.assertEmpty() // the leak check: the app has released everything
}).pipe(Effect.provide(Ledger.layer))
// #endregion

// #region two-browsers
export const oneBrowserDoesNotLogTheOtherOut = Effect.gen(function* () {
  const [laptop, phone] = [yield* browser, yield* browser]
  yield* laptop.post("/login", { body: alice })
  yield* phone.post("/login", { body: alice })
  yield* laptop.post("/logout")
  const visit = yield* phone.get("/")
  assert.equal(yield* visit.text, "Visit 1\n")
}).pipe(Effect.provide(layerTest))
// #endregion

// #region clock
class AppSession extends Session.Service<AppSession>()("test/AppSession", { data: Schema.Int, initial: 0 }) {}

/** Whose session it is, or why there is none. */
const ownerOf = (token: SessionToken.SessionToken) =>
  Effect.flatMap(AppSession.open(token), (context) => Context.get(context, AppSession).principal).pipe(
    Effect.catchTag("SessionError", ({ reason }) => Effect.succeed(reason._tag)),
    Effect.scoped
  )

/** For `it.effect`, whose clock stands still until the test moves it. */
export const anIdleSessionExpires = Effect.gen(function* () {
  const { token } = yield* AppSession.create({ principal: "alice" })
  assert.equal(yield* ownerOf(token), "alice")
  yield* TestClock.adjust("32 minutes") // the idle timeout, one touch interval, and a little more
  assert.equal(yield* ownerOf(token), "SessionExpired")
}).pipe(Effect.provide(Sessions.layer().pipe(Layer.provide(MemorySessionStore.layer))))
// #endregion

// #region outage
/** An outage is never a logout: the session is there again when the store is. */
const survives = <E>(
  store: Layer.Layer<SessionStore.SessionStore>,
  away: Effect.Effect<void>,
  back: Effect.Effect<void, E>
) =>
  Effect.gen(function* () {
    const { token } = yield* AppSession.create({ principal: "alice" })
    yield* away
    assert.equal(yield* ownerOf(token), "SessionsUnavailable")
    yield* back
    const again = Effect.repeat(ownerOf(token), {
      while: (told) => told === "SessionsUnavailable",
      schedule: Schedule.spaced("20 millis")
    })
    assert.equal(yield* again, "alice")
  }).pipe(Effect.provide(Sessions.layer().pipe(Layer.provide(store))))
// #endregion

// #region postgres
export const postgresMayRestart = Effect.gen(function* () {
  const server = yield* TestPostgres.TestPostgres
  yield* PgSessionStore.migrate({ url: server.url() })
  yield* survives(PgSessionStore.layer({ url: server.url() }), server.kill, server.start)
}).pipe(Effect.provide(TestPostgres.layer({ settings: { synchronous_commit: "on" } })))
// #endregion

// #region redis
export const redisMayStandStill = Effect.gen(function* () {
  const server = yield* TestRedis.TestRedis
  yield* survives(RedisSessionStore.layer({ url: server.url }), server.pause, server.resume)
}).pipe(Effect.provide(TestRedis.layer()))
// #endregion

// #region proxy
/** The network resets all connections. The pool replaces them, and the next borrower gets an answer. */
export const thePoolReplacesWhatTheNetworkCut = Effect.gen(function* () {
  const server = yield* TestPostgres.TestPostgres
  const proxy = yield* FaultProxy.make(server)
  const pool = ConnectionPool.layer({ max: 2 }).pipe(
    Layer.provide(PgConnectionSource.layer({ url: proxy.through(server.url()) }))
  )
  const ask = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select 6 * 7 as answer`).pipe(
    Effect.provide(Connection.layer)
  )
  yield* Effect.gen(function* () {
    assert.deepEqual(yield* ask, [{ answer: 42 }])
    yield* proxy.cut
    assert.deepEqual(yield* Effect.retry(ask, { times: 3 }), [{ answer: 42 }])
  }).pipe(Effect.provide(pool))
}).pipe(Effect.provide(TestPostgres.layer()), Effect.scoped)
// #endregion

// #region sweep
/** A pool without a server. `log.events` has what was asked of its connections. */
const scriptedPool = Effect.gen(function* () {
  const { log, source } = yield* ScriptedConnectionSource.make()
  const pool = Layer.fresh(ConnectionPool.layer({ max: 1 })).pipe(Layer.provide(ScriptedConnectionSource.layer(source)))
  return { log, pool }
})

/** The borrower is interrupted at one point after the other. What was lent comes back, what was opened is closed. */
const interruptedAfter = (turns: number) =>
  InterruptSweep.sweep(
    Effect.gen(function* () {
      const { log, pool } = yield* scriptedPool
      yield* Effect.gen(function* () {
        const borrower = yield* Effect.forkChild(Effect.provide(Effect.never, Connection.layer))
        yield* Effect.repeat(Effect.yieldNow, { times: turns })
        yield* Fiber.interrupt(borrower)
      }).pipe(Effect.provide(pool))
      const count = (event: string) => log.events.filter((one) => one.startsWith(event)).length
      assert.equal(count("lend"), count("back"))
      assert.equal(count("open"), count("close"))
      yield* LedgerRecorder.assertEmpty()
    }).pipe(Effect.provide(Layer.fresh(Ledger.layer)))
  )

export const noLeaseIsLost = Effect.forEach([1, 2, 4, 8], interruptedAfter)
// #endregion

// #region story
/** In which order a borrower and its connection end. */
export const aConnectionIsResetBeforeItIsLentAgain = Effect.gen(function* () {
  const recorder = yield* LedgerRecorder.make
  const { log, pool } = yield* scriptedPool
  yield* Effect.provide(Effect.void, Connection.layer).pipe(Effect.repeat({ times: 1 }), Effect.provide(pool))
  assert.deepEqual(log.events, ["open 1", "lend 1", "back 1", "reset 1", "lend 1", "back 1", "reset 1", "close 1"])
  assert.deepEqual(recorder.story("connection"), ["connection acquired", "connection released"])
}).pipe(Effect.scoped, Effect.provide(Ledger.layer))
// #endregion

// #region driver
/** A driver without a server: the statement decides what happens. */
const { driver, log } = ScriptedQueryDriver.make({
  execute: ({ sql }, sink, execution) =>
    ScriptedQueryDriver.answer(
      sql.startsWith("select")
        ? { rows: [["apple"], ["pear"]] }
        : {
            error: new QueryError.QueryError({
              reason: new QueryError.StatementFailed({ problem: "no such table", code: "42P01" })
            })
          },
      sink,
      execution
    )
})

const namesOf = (sql: string) =>
  Effect.flatMap(Query.Query, ({ rows }) => Stream.runCollect(rows)).pipe(
    Effect.map((rows) => rows.map(([name]) => name)),
    Effect.catchTag("QueryError", ({ reason }) => Effect.succeed([reason._tag])),
    Effect.provide(Query.layer(sql)),
    Effect.provide(ScriptedQueryDriver.layer(driver))
  )

export const aFailedStatementIsTold = Effect.gen(function* () {
  assert.deepEqual(yield* namesOf("select name from fruit"), ["apple", "pear"])
  assert.deepEqual(yield* namesOf("drop table fruits"), ["StatementFailed"])
  assert.equal(log.busy.size, 0)
})
// #endregion
