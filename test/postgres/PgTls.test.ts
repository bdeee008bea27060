import { assert, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as Connection from "../../src/connection/Connection.ts"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import * as PgTls from "../../src/postgres/internal/PgTls.ts"
import { busyBackends, eventually } from "../support/conditions.ts"
import { instance } from "../support/sessions.ts"
import { tlsServer } from "../support/tlsServer.ts"

type Server = Effect.Success<typeof tlsServer>
class Tls extends Context.Service<Tls, Server>()("test/Tls") {}

/** The server's URL with these parameters. */
const urlOf = ({ server }: Server, parameters: Readonly<Record<string, string>>) => {
  const url = new URL(Redacted.value(server.superuserUrl))
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value)
  return Redacted.make(url.href)
}

const poolOf = (url: Redacted.Redacted<string>) =>
  Layer.fresh(ConnectionPool.layer({ max: 2 })).pipe(Layer.provide(PgConnectionSource.layer({ url })))

/** Whether a leased connection is encrypted, or what kept it from being. */
const leased = (url: Redacted.Redacted<string>) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql<{ readonly ssl: boolean }>`select ssl from pg_stat_ssl where pid = pg_backend_pid()`
  ).pipe(
    Effect.map(([row]) => (row?.ssl === true ? "encrypted" : "clear text")),
    Effect.provide(Connection.layer),
    Effect.provide(poolOf(url)),
    Effect.catch(({ message }) => Effect.succeed(message))
  )

layer(Layer.effect(Tls, tlsServer), { excludeTestServices: true })("the TLS parameters of a URL", (it) => {
  it.effect("mean what they mean to psql", () =>
    Effect.gen(function* () {
      const tls = yield* Tls
      const sslrootcert = tls.authority
      const told = (parameters: Readonly<Record<string, string>>) => leased(urlOf(tls, parameters))
      assert.strictEqual(yield* told({}), "clear text")
      assert.strictEqual(yield* told({ sslmode: "disable" }), "clear text")
      assert.strictEqual(yield* told({ sslmode: "require" }), "encrypted")
      assert.strictEqual(yield* told({ sslmode: "require", sslrootcert }), "encrypted")
      assert.strictEqual(yield* told({ sslmode: "verify-ca", sslrootcert }), "encrypted")
      assert.strictEqual(yield* told({ sslmode: "verify-full", sslrootcert }), "encrypted")
      for (const sslmode of ["verify-ca", "verify-full"]) {
        assert.include(yield* told({ sslmode }), "DEPTH_ZERO_SELF_SIGNED_CERT")
        assert.include(yield* told({ sslmode, sslrootcert: "system" }), "DEPTH_ZERO_SELF_SIGNED_CERT")
      }
      assert.include(
        yield* told({ sslmode: "verify-full", sslrootcert: "/nowhere/ca.pem" }),
        "sslrootcert, which must name a file that Holdfast can read"
      )
      assert.include(yield* told({ sslmode: "verify-full", sslcrl: "x" }), "the parameter sslcrl")
    })
  )

  it.effect("PGSSLROOTCERT names the file where the URL does not", () =>
    Effect.gen(function* () {
      const tls = yield* Tls
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          process.env["PGSSLROOTCERT"] = tls.authority
        }),
        () => Effect.sync(() => delete process.env["PGSSLROOTCERT"])
      )
      assert.strictEqual(yield* leased(urlOf(tls, { sslmode: "verify-full" })), "encrypted")
    }).pipe(Effect.scoped)
  )

  it.effect("hold for cancels, too: the server has confirmed one when the interruption is over", () =>
    Effect.gen(function* () {
      const tls = yield* Tls
      const url = urlOf(tls, { sslmode: "verify-full", sslrootcert: tls.authority })
      const server = Effect.succeed(tls.server.superuserUrl)
      const statement = yield* Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select pg_sleep(60)`).pipe(
        Effect.provide(Connection.layer),
        Effect.provide(poolOf(url)),
        Effect.forkChild
      )
      const sleeping = Effect.map(busyBackends("postgres", server), (busy) =>
        busy.filter(({ query }) => String(query).includes("pg_sleep"))
      )
      yield* eventually(sleeping, (busy) => busy.length === 1)
      yield* Fiber.interrupt(statement)
      assert.lengthOf(yield* sleeping, 0)
    })
  )

  it.effect("hold for the tables of sessions and the store", () =>
    Effect.gen(function* () {
      const tls = yield* Tls
      const url = urlOf(tls, { sslmode: "verify-full", sslrootcert: tls.authority })
      yield* PgSessionStore.migrate({ url })
      const store = yield* instance({ url })
      yield* store.ping
      const refused = yield* Effect.exit(PgSessionStore.migrate({ url: urlOf(tls, { sslmode: "verify-full" }) }))
      assert.isTrue(Exit.isFailure(refused))
    }).pipe(Effect.scoped)
  )
})

it("the authorities of the system are never weaker than `verify-full`", () => {
  const parameters = new Map([
    ["sslmode", "require"],
    ["sslrootcert", "system"]
  ])
  assert.deepStrictEqual(PgTls.of(parameters), { ssl: { rejectUnauthorized: true } })
})
