// Tests of a program that uses Holdfast. Each one is the body of a test: it.live("…", () => aReportEndsWithItsSession)
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Fiber, Layer, type Redacted, Schedule, Schema, Stream } from "effect"
import { HttpBody } from "effect/http"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { Connection, ConnectionPool, Ledger, MemorySessionStore, Query, QueryError, Session, Sessions } from "holdfast"
import type { SessionStore, SessionToken } from "holdfast"
import * as PgConnectionSource from "holdfast/postgres/PgConnectionSource"
import * as PgSessionStore from "holdfast/postgres/PgSessionStore"
import * as RedisSessionStore from "holdfast/redis/RedisSessionStore"
import * as FaultProxy from "holdfast/testing/FaultProxy"
import * as InterruptSweep from "holdfast/testing/InterruptSweep"
import * as LeakCheck from "holdfast/testing/LeakCheck"
import * as LedgerRecorder from "holdfast/testing/LedgerRecorder"
import * as TestPostgres from "holdfast/testing/TestPostgres"
import * as TestRedis from "holdfast/testing/TestRedis"
import * as TestSql from "holdfast/testing/TestSql"
import * as ScriptedConnectionSource from "holdfast/testing/ScriptedConnectionSource"
import * as ScriptedQueryDriver from "holdfast/testing/ScriptedQueryDriver"
import * as SkewedClock from "holdfast/testing/SkewedClock"
import * as TestHttp from "holdfast/testing/TestHttp"
import * as assert from "node:assert/strict"
import { app } from "./memory-app.ts"

// #region holds
/** Waits until the program holds something of this kind. It waits for a condition, never for a time. */
const holds = (kind: string) =>
  Effect.gen(function* () {
    const ledger = yield* Ledger.Ledger
    const isHeld = Effect.map(ledger.holdings, (all) => all.some((holding) => holding.kind === kind))
    yield* Effect.repeat(isHeld, { until: (held) => held, schedule: Schedule.spaced("5 millis") })
  }).pipe(Effect.timeout("10 seconds"))
// #endregion

// #region app
const origin = "http://localhost:3000"
const alice = { body: HttpBody.jsonUnsafe({ username: "alice", password: "wonderland" }) }

/** The app without a socket, with sessions of its own. */
const inProcess = app.pipe(Layer.provideMerge(TestHttp.layer({ origin })))

export const aReportEndsWithItsSession = Effect.gen(function* () {
  const { client } = yield* TestHttp.browser
  yield* client.post("/login", alice)
  const report = yield* Effect.forkChild(client.get("/report"))
  yield* holds("handle")
  yield* client.post("/logout")
  assert.equal((yield* Fiber.join(report)).status, 401)
}).pipe(Effect.provide(inProcess), LeakCheck.around())
// #endregion

// #region two-browsers
/** The same browsers, and the app on a port. */
const listening = app.pipe(
  Layer.provideMerge(TestHttp.layerListening({ origin })),
  Layer.provideMerge(NodeHttpServer.layerTest)
)

export const oneBrowserDoesNotLogTheOtherOut = Effect.gen(function* () {
  const [laptop, phone] = [yield* TestHttp.browser, yield* TestHttp.browser]
  yield* laptop.client.post("/login", alice)
  yield* phone.client.post("/login", alice)
  yield* laptop.client.post("/logout")
  const visit = yield* phone.client.get("/")
  assert.equal(yield* visit.text, "Visit 1\n")
}).pipe(Effect.provide(listening))
// #endregion

// #region template
/** What refuses to run in a transaction; it requires a `TestDatabase`, as a sandbox does. */
export const sessionsAreVacuumed = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`vacuum holdfast.sessions`
  assert.deepEqual(yield* sql`select count(*)::int as sessions from holdfast.sessions`, [{ sessions: 0 }])
}).pipe(Effect.provide(TestSql.layerTemplate))
// #endregion

// #region skew
/** Somebody sets the clock of the machine back by a day. What is to happen in a minute happens in a minute. */
export const aTimerKnowsNothingOfTheTimeOfDay = SkewedClock.settable(({ back }) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(Effect.sleep("1 minute"))
    yield* back("1 day")
    yield* TestClock.adjust("1 minute")
    yield* Fiber.join(fiber)
  })
)
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
})
// #endregion

// #region standby
/** The primary is gone, and its standby takes its place. Nobody was logged out: a commit had waited for the standby. */
export const aStandbyTakesOver = Effect.gen(function* () {
  const primary = yield* TestPostgres.TestPostgres
  yield* PgSessionStore.migrate({ url: primary.url() })
  const standby = yield* TestPostgres.makeStandby(primary, { synchronous: true })
  const sessionsAt = (url: Redacted.Redacted) => Sessions.layer().pipe(Layer.provide(PgSessionStore.layer({ url })))
  const { token } = yield* AppSession.create({ principal: "alice" }).pipe(Effect.provide(sessionsAt(primary.url())))
  yield* primary.kill
  yield* standby.promote
  assert.equal(yield* ownerOf(token).pipe(Effect.provide(sessionsAt(standby.url()))), "alice")
}).pipe(Effect.scoped, Effect.provide(TestPostgres.layer()))
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
  const proxy = yield* FaultProxy.to(server.url())
  const pool = ConnectionPool.layer({ max: 2 }).pipe(Layer.provide(PgConnectionSource.layer({ url: proxy.url })))
  const ask = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select 6 * 7 as answer`).pipe(
    Effect.provide(Connection.layer)
  )
  yield* Effect.gen(function* () {
    assert.deepEqual(yield* ask, [{ answer: 42 }])
    yield* proxy.cut
    assert.deepEqual(yield* Effect.retry(ask, { times: 3 }), [{ answer: 42 }])
  }).pipe(Effect.provide(pool))
}).pipe(Effect.scoped)
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
