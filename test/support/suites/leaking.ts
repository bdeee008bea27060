/** A file of tests that leaks on purpose; each test passes. `LeakCheck.test.ts` says what is to be found. */
import { afterAll, assert, beforeAll, beforeEach, it, layer } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { createServer } from "node:http"
import * as ConnectionPool from "../../../src/connection/ConnectionPool.ts"
import * as Ledger from "../../../src/lifetime/Ledger.ts"
import * as PgConnectionSource from "../../../src/postgres/PgConnectionSource.ts"
import * as LeakCheck from "../../../src/testing/LeakCheck.ts"

const url = Redacted.make(process.env["HOLDFAST_SUITE_URL"] ?? "")
const leaks = process.env["HOLDFAST_SUITE_LEAKS"] === "yes"

LeakCheck.suite({ beforeAll, beforeEach, afterAll }, { databases: [url] })

/** What the file itself holds is no leak: it is opened in the first test that wants it, and closed after the last. */
const pool = ConnectionPool.layer({ max: 2 }).pipe(Layer.provide(PgConnectionSource.layer({ url })))

layer(pool, { excludeTestServices: true })("a file of tests", (it) => {
  it.effect("borrows a connection and gives it back", () =>
    Effect.gen(function* () {
      const { lease } = yield* ConnectionPool.ConnectionPool
      const { sql } = yield* lease()
      const client = yield* sql
      assert.deepStrictEqual(yield* client`select 1 as one`, [{ one: 1 }])
    }).pipe(Effect.scoped)
  )
})

const forever = Effect.runSync(Scope.make())

const openForGood = Effect.fn("openForGood")(function* () {
  yield* Ledger.hold({ kind: "shop", id: "corner" }, Effect.void, () => Effect.void)
  const connection = yield* PgConnection.make({ url, applicationName: "forgetful" })
  yield* connection.query("select 'forgotten'")
}, Scope.provide(forever))

const pollForGood = Effect.fn("pollForGood")(function* () {
  yield* Effect.forkDetach(Effect.never)
})

/** Done when the test is over that forked the sleeper. */
const anotherTest = Deferred.makeUnsafe<void>()

if (leaks) {
  it.effect("leaks a connection", () => openForGood())
  it.effect("leaks a fiber", () => pollForGood())
  it.live("leaks a sleeper", () =>
    Effect.forkDetach(Effect.andThen(Deferred.await(anotherTest), Effect.sleep("1 hour")))
  )
  it.effect("leaks a timer", () =>
    Effect.sync(() => {
      Deferred.doneUnsafe(anotherTest, Effect.void)
      setInterval(() => undefined, 54_321)
    })
  )
  it.effect("leaks a row", () =>
    Effect.gen(function* () {
      const connection = yield* PgConnection.make({ url })
      yield* connection.query("insert into fruit values ('apple')")
    }).pipe(Effect.scoped)
  )
  it.effect("leaks a listener", () => Effect.sync(() => void process.on("SIGUSR2", () => undefined)))
  it.effect("leaks a server", () =>
    Effect.callback((resume) => void createServer().listen(0, () => resume(Effect.void)))
  )
}
