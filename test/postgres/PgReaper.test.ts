import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as PgOpening from "../../src/postgres/internal/PgOpening.ts"
import * as PgReaper from "../../src/postgres/internal/PgReaper.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import * as SkewedClock from "../../src/testing/SkewedClock.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"

it.live(
  "C6 a backend behind a pooler that has come to another statement between the look at it and its end is spared",
  () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const { hostname, port } = new URL(Redacted.value(url))
      // Between the moment in which a look has been answered and the one in which an order arrives lie two ways of this length.
      const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
      yield* proxy.decide(() => ({ delay: 300 }))
      const witness = yield* PgConnection.make({ url })
      const has = (sql: string, ...params: ReadonlyArray<unknown>) =>
        eventually(witness.query(sql, params), ({ rows }) => rows.length > 0)

      const gates = yield* PgConnection.make({ url })
      yield* gates.query("select pg_advisory_lock(1), pg_advisory_lock(2)")
      const borrowed = yield* PgConnection.make({ url })
      const {
        rows: [self]
      } = yield* borrowed.query("select pid, backend_start::text from pg_stat_activity where pid = pg_backend_pid()")
      const backend = { pid: Number(self?.["pid"]), startedAt: String(self?.["backend_start"]), isOurs: false }
      const runs = (key: number) =>
        has(
          "select from pg_stat_activity where pid = $1 and query like $2 and wait_event_type = 'Lock'",
          backend.pid,
          `%lock(${key})`
        )
      const first = yield* Effect.forkChild(borrowed.query("select pg_advisory_lock(1)"))
      yield* runs(1)

      const reaper = yield* PgReaper.make({ url: proxy.through(url), applicationName: "reaper" })
      const expelled = yield* Effect.forkChild(reaper.expel(backend, Duration.zero))
      const answered = (text: string) =>
        has(
          "select from pg_stat_activity where application_name = 'reaper' and state = 'idle' and query like $1",
          `%${text}%`
        )
      yield* answered("a.query_start::")
      yield* gates.query("select pg_advisory_unlock(1)")
      yield* Fiber.join(first)
      const second = yield* Effect.forkChild(borrowed.query("select pg_advisory_lock(2)"))
      yield* runs(2)
      yield* answered("pg_terminate_backend")
      yield* gates.query("select pg_advisory_unlock(2)")
      assert.strictEqual((yield* Fiber.join(second)).rows.length, 1)
      yield* Fiber.join(expelled)
    }).pipe(Effect.scoped)
)

it.live("C6 a statement that comes to the server after its connection was given up is ended, too", () =>
  Effect.gen(function* () {
    const { url } = yield* freshDatabase
    const witness = yield* PgConnection.make({ url })
    const connection = yield* PgOpening.make({ url })
    const backend = yield* Effect.fromNullishOr(PgOpening.backendOf(connection))
    const reaper = yield* PgReaper.make({ url, applicationName: "reaper" })
    const expelled = yield* Effect.forkChild(reaper.expel(backend, Duration.seconds(1)))
    yield* eventually(
      witness.query(
        "select from pg_stat_activity where application_name = 'reaper' and state = 'idle' and query like '%a.query_start%'"
      ),
      ({ rows }) => rows.length > 0
    )
    const late = yield* Effect.forkChild(Effect.exit(connection.query("select pg_sleep(60)")))
    yield* Fiber.join(expelled)
    assert.strictEqual((yield* Effect.timeout(Fiber.join(late), "10 seconds"))._tag, "Failure")
  }).pipe(Effect.scoped)
)

it.live("C6 a backend is ended after its grace and not before, also when somebody sets the clock meanwhile", () =>
  SkewedClock.settable((clock) =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const witness = yield* PgConnection.make({ url })
      const reaper = yield* PgReaper.make({ url, applicationName: "reaper" })
      /** A statement that runs so long, on a backend that has so much grace; told is what became of the statement. */
      const given = Effect.fnUntraced(function* (sql: string, grace: Duration.Input) {
        const connection = yield* PgConnection.make({ url })
        const {
          rows: [self]
        } = yield* connection.query(
          "select pid, backend_start::text from pg_stat_activity where pid = pg_backend_pid()"
        )
        const backend = { pid: Number(self?.["pid"]), startedAt: String(self?.["backend_start"]), isOurs: false }
        const running = yield* Effect.forkChild(Effect.exit(connection.query(sql)), { startImmediately: true })
        // The reaper ends the statement that it sees first, and spares a later one.
        yield* eventually(
          witness.query("select from pg_stat_activity where pid = $1 and query = $2", [backend.pid, sql]),
          ({ rows }) => rows.length > 0
        )
        yield* Effect.forkChild(reaper.expel(backend, Duration.fromInputUnsafe(grace)), { startImmediately: true })
        return Effect.map(Fiber.join(running), ({ _tag }) => _tag)
      })
      const patient = yield* given("select pg_sleep(0.5)", "1 minute")
      yield* clock.forward("1 hour")
      assert.strictEqual(yield* patient, "Success")
      const ended = yield* given("select pg_sleep(60)", "200 millis")
      yield* clock.back("1 hour")
      assert.strictEqual(yield* Effect.timeout(ended, "10 seconds"), "Failure")
    })
  )
)
