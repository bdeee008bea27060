// #region tests
import { afterAll, assert, beforeAll, beforeEach, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { HttpBody } from "effect/http"
import { SqlClient } from "effect/sql"
import * as PgSessionStore from "holdfast/postgres/PgSessionStore"
import * as LeakCheck from "holdfast/testing/LeakCheck"
import * as TestHttp from "holdfast/testing/TestHttp"
import * as TestPostgres from "holdfast/testing/TestPostgres"
import * as TestSql from "holdfast/testing/TestSql"
import { app, AppSession, origin, tables } from "./notes-app.ts"

// The file fails where a test leaves something open.
LeakCheck.suite({ beforeAll, beforeEach, afterAll })

/** A real server with the app's tables, once for the file. */
const database = Layer.unwrap(
  Effect.map(TestPostgres.TestPostgres, ({ superuserUrl }) =>
    TestSql.layerDatabase({
      url: superuserUrl,
      migrate: (url) =>
        Effect.andThen(
          PgSessionStore.migrate({ url }),
          TestSql.connect(url, (sql) => Effect.forEach(tables, (table) => sql.unsafe(table)))
        )
    })
  )
).pipe(Layer.provide(TestPostgres.layer()))

/** The app without a socket, for each test in a transaction of its own. A test makes it fresh: it is shared with no other test. */
const inSandbox = Layer.unwrap(Effect.map(TestSql.TestSql, ({ url }) => app(url))).pipe(
  Layer.provideMerge(TestHttp.layer({ origin })),
  Layer.provideMerge(TestSql.layerSandbox)
)

const notesOf = ({ client }: TestHttp.Browser) => Effect.flatMap(client.get("/notes"), ({ json }) => json)

// A server begins in two seconds, and in more where the machine is busy: Vitest gives a hook ten.
layer(database, { timeout: "1 minute" })("notes", (it) => {
  it.effect("belong to who wrote them", () =>
    Effect.gen(function* () {
      const [alice, bob] = [yield* TestHttp.browserOf(AppSession), yield* TestHttp.browserOf(AppSession)]
      yield* alice.loginAs("alice")
      yield* bob.loginAs("bob")
      const { status } = yield* alice.client.post("/notes", { body: HttpBody.text("Buy milk") })
      assert.strictEqual(status, 204)
      assert.deepStrictEqual(yield* notesOf(alice), [{ text: "Buy milk" }])
      assert.deepStrictEqual(yield* notesOf(bob), [])
    }).pipe(Effect.provide(Layer.fresh(inSandbox)))
  )

  it.effect("are for those who are logged in, and not for pages of other sites", () =>
    Effect.gen(function* () {
      const visitor = yield* TestHttp.browser
      assert.strictEqual((yield* visitor.client.get("/notes")).status, 401)
      const alice = yield* TestHttp.browserOf(AppSession)
      yield* alice.loginAs("alice")
      const foreign = { headers: { origin: "https://evil.example" }, body: HttpBody.text("Buy milk") }
      assert.strictEqual((yield* alice.client.post("/notes", foreign)).status, 403)
      // The app's own SQL sees the same database, which has nothing of the other test.
      const sql = yield* SqlClient.SqlClient
      assert.deepStrictEqual(yield* sql`select owner from notes`, [])
    }).pipe(Effect.provide(Layer.fresh(inSandbox)))
  )
})
// #endregion
