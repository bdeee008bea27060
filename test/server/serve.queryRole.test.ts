import { randomBytes } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { problemOf, queryOf, rowsOf, run, submittedId } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as Service from "../support/service.ts"

layer(Service.layerShared(), { excludeTestServices: true, timeout: "60 seconds" })("the role of users' SQL", (it) => {
  /** What happens to the role, and to the connections that it has. */
  const change = (sql: string) =>
    Effect.gen(function* () {
      const { queries } = yield* Service.Shared
      yield* Service.administer(sql.replaceAll("ROLE", queries.role))
      yield* Service.administer(
        `select pg_terminate_backend(pid) from pg_stat_activity where usename = '${queries.role}'`
      )
    })
  const readiness = Effect.flatMap(Service.Shared, ({ browser }) => browser().send("GET", "/health/ready"))
  const refusals = Effect.map(Service.Shared, (service) =>
    service.lines().filter((line) => line.includes("HOLDFAST_QUERY_SUPERUSER=allow"))
  )

  it.effect("a role above the rules of the database is refused, whenever it is met, and the log says so once", () =>
    Effect.gen(function* () {
      const { lines } = yield* Service.Shared
      const demo = yield* Service.Demo
      assert.strictEqual((yield* run(demo, "select 1")).state, "Succeeded")
      let met = 0
      for (const [given, taken, power] of [
        ["alter role ROLE superuser", "alter role ROLE nosuperuser", "a superuser"],
        ["alter role ROLE bypassrls", "alter role ROLE nobypassrls", "a role with BYPASSRLS"],
        ["alter role ROLE replication", "alter role ROLE noreplication", "a role with REPLICATION"],
        [
          "grant pg_execute_server_program to ROLE",
          "revoke pg_execute_server_program from ROLE",
          "a member of pg_execute_server_program"
        ]
      ] as const) {
        yield* change(given)
        const waiting = yield* eventually(readiness, ({ status }) => status === 503, "20 seconds")
        assert.include(waiting.text, "queries")
        for (let times = 0; times < 3; times++) {
          const refused = yield* demo.send("POST", "/queries", { json: { sql: "select 1" } })
          assert.deepStrictEqual([refused.status, problemOf(refused).code], [503, "QueriesUnavailable"], refused.text)
          assert.include(refused.text, "cannot be used")
        }
        const told = yield* refusals
        assert.lengthOf(told, ++met, lines().join("\n"))
        assert.include(told.at(-1), power)
        yield* change(taken)
        yield* eventually(readiness, ({ status }) => status === 200, "20 seconds")
        assert.strictEqual((yield* run(demo, "select 1")).state, "Succeeded")
      }
    })
  )

  it.effect(
    "what a user is told of a database that is away names neither its host nor its port, database or role",
    () =>
      Effect.gen(function* () {
        const { queries } = yield* Service.Shared
        const demo = yield* Service.Demo
        const told: Array<string> = []
        yield* change("alter role ROLE nologin")
        yield* eventually(
          Effect.gen(function* () {
            const answer = yield* demo.send("POST", "/queries", { json: { sql: "select 1" } })
            told.push(answer.text)
            if (answer.status !== 202) return answer.status
            // Taken in before anybody knew: it fails, and says why.
            const path = `/queries/${submittedId(answer)}`
            const { text } = yield* eventually(demo.send("GET", path), (answer) => queryOf(answer).state === "Failed")
            told.push(text)
            return answer.status
          }),
          (status) => status === 503,
          "20 seconds"
        )
        const { hostname, port } = new URL(Redacted.value(queries.url))
        for (const hidden of [hostname, port, queries.name, queries.role]) assert.notInclude(told.join("\n"), hidden)
        yield* change("alter role ROLE login")
        yield* eventually(readiness, ({ status }) => status === 200, "20 seconds")
      })
  )
})

describe("database roles that exist already", () => {
  it.live("I2 each user's SQL runs as the role that the operator names; a user without one runs nothing", () =>
    Effect.gen(function* () {
      const role = `analyst_${randomBytes(6).toString("hex")}`
      yield* Effect.acquireRelease(Service.administer(`create role ${role} login password 'its: "own"'`), () =>
        Effect.orDie(Service.administer(`drop role ${role}`))
      )
      const file = yield* Effect.acquireRelease(
        Effect.sync(() => {
          const path = Path.join(mkdtempSync(Path.join(tmpdir(), "holdfast-roles-")), "roles.json")
          writeFileSync(path, JSON.stringify({ demo: { role, password: 'its: "own"' } }), { mode: 0o600 })
          return path
        }),
        (path) => Effect.sync(() => rmSync(Path.dirname(path), { recursive: true }))
      )
      const service = yield* Service.startService({
        env: { HOLDFAST_QUERY_ROLES: "map", HOLDFAST_QUERY_ROLES_FILE: file }
      })
      yield* Service.addUser(service, "alice")
      const [demo, alice] = yield* Effect.all([service.login(), service.login("alice")])
      assert.deepStrictEqual(yield* rowsOf(demo, "select session_user::text, current_user::text"), [[role, role]])
      const refused = yield* alice.send("POST", "/queries", { json: { sql: "select 1" } })
      assert.deepStrictEqual([refused.status, problemOf(refused).code], [503, "QueriesNotConfigured"], refused.text)
      assert.include(refused.text, "no database role")
      yield* Service.administer(`alter role ${role} password 'another'`)
      yield* Service.administer(`select pg_terminate_backend(pid) from pg_stat_activity where usename = '${role}'`)
      for (let times = 0; times < 2; times++) assert.strictEqual((yield* run(demo, "select 1")).state, "Failed")
      assert.lengthOf(
        service
          .messages()
          .join("\n")
          .match(/does not let this role in/g) ?? [],
        1
      )
    }).pipe(Effect.scoped)
  )
})
