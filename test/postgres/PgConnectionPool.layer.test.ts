import { assert, describe, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as Connection from "../../src/connection/Connection.ts"
import * as PgConnectionPool from "../../src/postgres/PgConnectionPool.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { freshDatabase } from "../support/postgres.ts"

const pid = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(sql`select pg_backend_pid() as pid`, ([row]) => row?.["pid"])
)

describe("PgConnectionPool", () => {
  it.live("gives short statements a shared client, and whoever asks for one a connection of their own", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      yield* Effect.gen(function* () {
        const own = yield* Effect.gen(function* () {
          const { id } = yield* Connection.Connection
          assert.strictEqual(String(yield* pid), id)
          return id
        }).pipe(Effect.provide(Connection.layer))
        const shared = yield* Effect.forEach(Array.from({ length: 40 }), () => pid, { concurrency: "unbounded" })
        assert.isAtMost(new Set(shared).size, 2)
        assert.notInclude(shared.map(String), own)
      }).pipe(Effect.provide(PgConnectionPool.layer({ url })))
    }).pipe(Effect.scoped)
  )

  it.live("a short statement that gets no answer fails in time, and the next one has another connection", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const { hostname, port } = new URL(Redacted.value(url))
      const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
      yield* Effect.gen(function* () {
        const before = yield* pid
        yield* proxy.freeze
        const errors = yield* Effect.forEach([1, 2, 3], () => Effect.flip(pid), { concurrency: "unbounded" })
        for (const error of errors) assert.oneOf(error.reason._tag, ["StatementTimeoutError", "ConnectionError"])
        assert.notStrictEqual(yield* pid, before)
      }).pipe(
        Effect.provide(
          PgConnectionPool.layer({ url: proxy.through(url), statementTimeout: "1 second", sharedConnections: 1 })
        )
      )
    }).pipe(Effect.scoped)
  )

  it.live("is built from configuration", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const environment = ConfigProvider.layer(
        ConfigProvider.fromEnv({ env: { DATABASE_URL: Redacted.value(url), POOL_MAX: "3" } })
      )
      const layer = PgConnectionPool.layerConfig({ url: Config.Redacted("DATABASE_URL"), max: Config.Int("POOL_MAX") })
      yield* pid.pipe(Effect.provide(Connection.layer), Effect.provide(layer), Effect.provide(environment))
    }).pipe(Effect.scoped)
  )

  const refused = (what: string, field: string, options: Partial<PgConnectionPool.Options>) =>
    it.effect(`refuses ${what} when the layer is built, naming the option and no secret`, () =>
      Effect.gen(function* () {
        const url = Redacted.make("postgres://user:secret@127.0.0.1/db")
        const error = yield* Effect.flip(Effect.scoped(Layer.build(PgConnectionPool.layer({ url, ...options }))))
        assert.deepInclude(error.reason, { _tag: "InvalidConfig", field })
        assert.notInclude(error.message, "secret")
      })
    )
  for (const url of [
    "mysql://user:secret@host/db",
    "postgres://user:secret100%@host/db",
    "postgres://user:secret@host/a%00b",
    "postgres://user:secret@host/db?sslmode=requier",
    "postgres://user:secret@host/db?connect_timeout=ten",
    "postgres://user:secret@host:0/db"
  ]) {
    refused(`the URL ${url.replace("secret", "…")}`, "url", { url: Redacted.make(url) })
  }
  // PostgreSQL counts in 32 bits of milliseconds, and so does a timer.
  refused("a statementTimeout of 30 days", "statementTimeout", { statementTimeout: "30 days" })
  refused("an idleInTransactionTimeout of 30 days", "idleInTransactionTimeout", { idleInTransactionTimeout: "30 days" })
  refused("a connectTimeout of 30 days", "connectTimeout", { connectTimeout: "30 days" })

  for (const [field, options] of Object.entries<Partial<PgConnectionPool.Options>>({
    connectTimeout: { connectTimeout: -1 },
    statementTimeout: { statementTimeout: Number.POSITIVE_INFINITY },
    "settings.Statement_Timeout": { settings: { Statement_Timeout: "10min" } },
    idleInTransactionTimeout: { idleInTransactionTimeout: 0 },
    sharedConnections: { sharedConnections: 0 },
    max: { max: 1.5 }
  })) {
    refused(`a ${field} that makes no sense`, field, options)
  }
})
