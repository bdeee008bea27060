import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import * as QueryRoleNames from "../../src/server/QueryRoleNames.ts"
import * as QueryRoleRemoval from "../../src/server/QueryRoleRemoval.ts"
import * as QueryRoles from "../../src/server/QueryRoles.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import { eventually } from "../support/conditions.ts"

/** As the superuser of a database. */
const administer = (sql: string, database = "postgres") =>
  Effect.gen(function* () {
    const connection = yield* PgConnection.make({ url: (yield* TestPostgres.TestPostgres).url(database) })
    return yield* connection.queryValues(sql)
  }).pipe(Effect.scoped)

/** A new database and a role that may, or may not, make roles and schemas there. */
const place = (name: string, rights: string) =>
  Effect.gen(function* () {
    yield* administer(`create role ${name} login password 'secret' ${rights}`)
    yield* administer(`create database ${name}`)
    yield* administer(`grant create on database ${name} to ${name}`)
    return (yield* TestPostgres.TestPostgres).url(name, { username: name, password: "secret" })
  })

/** A pool whose connections are opened as users' roles. */
const poolOf = (url: Redacted.Redacted) =>
  Effect.gen(function* () {
    const { login, put, ready } = yield* QueryRoles.make({ url })
    const onRefused = (principal: string | undefined) => (principal === undefined ? Effect.void : put(principal))
    const source = PgConnectionSource.layer({ url, login, onRefused })
    const context = yield* Layer.build(ConnectionPool.layer({ max: 4 }).pipe(Layer.provide(source)))
    const pool = yield* Effect.provide(ConnectionPool.ConnectionPool, context)
    const whoIs = (role: string) =>
      Effect.scoped(
        Effect.flatMap(pool.lease({ role, key: role }), ({ sql }) =>
          Effect.flatMap(sql, (client) => client<{ who: string }>`select current_user::text as who`)
        )
      ).pipe(Effect.map(([row]) => row?.who))
    return { pool, whoIs, ready, put, login }
  })

/** What is logged from now on. */
const listening = Effect.sync(() => {
  const lines: Array<string> = []
  const logger = Logger.make(({ message }) => void lines.push(String(message)))
  return { lines, layer: Logger.layer([logger]) }
})

describe("the names of roles", () => {
  it("are readable where they can be, short, and one user's each", () => {
    assert.strictEqual(QueryRoleNames.roleOf("workspace", "alice"), "workspace__alice")
    const principals = [
      "alice",
      "Alice",
      "alice ",
      "a__b",
      "a_b",
      "é",
      "日本",
      "x".repeat(128),
      "_",
      "1",
      "",
      "drop table;--"
    ]
    const hashed = QueryRoleNames.roleOf("workspace", "Alice").slice("workspace__".length)
    const databases = ["workspace", "w", "a b", "d".repeat(63), "a__b"]
    const names = databases.flatMap((database) =>
      [...principals, hashed].map((principal) => QueryRoleNames.roleOf(database, principal))
    )
    assert.strictEqual(new Set(names).size, names.length)
    for (const name of names) {
      assert.match(name, /^[a-z][a-z0-9_]*$/)
      assert.isAtMost(QueryRoleNames.leftOf(name, 1_800_000_000).length, 63, name)
    }
  })

  it("have passwords that follow from that of the URL, and from nothing that a user knows", () => {
    const of = (url: string) => Redacted.value(QueryRoleNames.passwords(Redacted.make(url))("w__alice"))
    assert.strictEqual(of("postgres://a:secret@one/w"), of("postgres://a:secret@two/w"))
    assert.strictEqual(of("postgres://a:secret@one/w"), of("postgres://one/w?user=a&password=secret"))
    assert.notStrictEqual(of("postgres://a:other@one/w"), of("postgres://a:secret@one/w"))
    assert.notStrictEqual(of("postgres://a@one/w"), of("postgres://a@one/w"))
  })
})

layer(TestPostgres.layer(), { excludeTestServices: true, timeout: "60 seconds" })("roles of users", (it) => {
  it.effect("are made on demand by any role that may, also by two instances at the same moment", () =>
    Effect.gen(function* () {
      const url = yield* place("plain", "createrole")
      const [one, two] = yield* Effect.all([poolOf(url), poolOf(url)], { concurrency: "unbounded" })
      const who = yield* Effect.all(
        [one.whoIs("alice"), two.whoIs("alice"), one.whoIs("Bob the 2nd"), two.whoIs("Bob the 2nd")],
        { concurrency: "unbounded" }
      )
      const bob = QueryRoleNames.roleOf("plain", "Bob the 2nd")
      assert.deepStrictEqual(who, ["plain__alice", "plain__alice", bob, bob])
      yield* one.ready
      assert.deepStrictEqual(
        yield* administer(`select shobj_description(oid, 'pg_authid') from pg_roles where rolname = '${bob}'`),
        [[`User "Bob the 2nd" of Holdfast`]]
      )
      assert.deepStrictEqual(
        yield* administer(`select rolsuper or rolcreaterole or rolcreatedb from pg_roles where rolname = '${bob}'`),
        [[false]]
      )
      // A password is never sent when it is set.
      const { password } = one.login("alice")
      const [[verifier]] = (yield* administer("select rolpassword from pg_authid where rolname = 'plain__alice'")) as [
        [string]
      ]
      assert.match(verifier, /^SCRAM-SHA-256\$/)
      assert.notInclude(verifier, Redacted.value(password))
    }).pipe(Effect.scoped)
  )

  it.effect("C7 have their backends ended by the role that made them, when those are given up", () =>
    Effect.gen(function* () {
      const { pool } = yield* poolOf(yield* place("keeper", "createrole"))
      const theirs = administer("select pid from pg_stat_activity where usename = 'keeper__alice'")
      yield* Effect.scoped(
        Effect.gen(function* () {
          const { kill, sql } = yield* pool.lease({ role: "alice" })
          const client = yield* sql
          yield* Effect.forkChild(Effect.exit(client`select pg_sleep(60)`))
          yield* eventually(theirs, (rows) => rows.length === 1)
          yield* kill
        })
      )
      yield* eventually(theirs, (rows) => rows.length === 0)
      yield* eventually(pool.stats, ({ zombies }) => zombies === 0)
    }).pipe(Effect.scoped)
  )

  it.effect("cannot be made by a role that may not: the error says what to run, and nothing is ready", () =>
    Effect.gen(function* () {
      const url = yield* place("poor", "")
      const { ready } = yield* poolOf(url)
      const { message } = yield* eventually(Effect.flip(ready), ({ problem }) => problem.includes("may not make any"))
      assert.include(message, `Run "alter role "poor" createrole"`)
      yield* administer("alter role poor createrole")
      yield* eventually(Effect.isSuccess(ready), (isReady) => isReady)
    }).pipe(Effect.scoped)
  )

  it.effect("are not made where a schema of that name is somebody else's", () =>
    Effect.gen(function* () {
      const url = yield* place("squat", "createrole")
      yield* administer("create schema squat__carol", "squat")
      const { put } = yield* poolOf(url)
      assert.include((yield* Effect.flip(put("carol"))).message, "belongs to postgres, not to squat")
      assert.deepStrictEqual(yield* administer("select from pg_roles where rolname = 'squat__carol'"), [])
    }).pipe(Effect.scoped)
  )

  it.effect("in a database whose schema public is open to all are warned of", () =>
    Effect.gen(function* () {
      const url = yield* place("open", "createrole")
      yield* administer("grant create on schema public to public", "open")
      const { layer, lines } = yield* listening
      yield* Effect.provide(
        Effect.flatMap(poolOf(url), ({ ready }) => eventually(Effect.isSuccess(ready), (isReady) => isReady)),
        layer
      )
      assert.isTrue(
        lines.some((line) => line.includes("revoke create on schema public from public")),
        lines.join("\n")
      )
    }).pipe(Effect.scoped)
  )

  it.effect("that own something in another database stay, closed, and the error says why", () =>
    Effect.gen(function* () {
      const url = yield* place("far", "createrole")
      const { put, whoIs } = yield* poolOf(url)
      yield* put("dora")
      yield* administer("create table hers (id int)")
      yield* administer("alter table hers owner to far__dora")
      assert.include((yield* Effect.flip(QueryRoleRemoval.remove(url, "dora"))).message, "objects depend on it")
      assert.deepStrictEqual(yield* administer("select rolcanlogin from pg_roles where rolname = 'far__dora'"), [
        [false]
      ])
      yield* administer("drop table hers")
      const removed = yield* QueryRoleRemoval.remove(url, "dora")
      assert.deepStrictEqual(removed, { role: "far__dora", heir: "far", schema: undefined, left: [] })
      assert.isUndefined(yield* QueryRoleRemoval.remove(url, "dora"))
      assert.strictEqual(yield* whoIs("erin"), "far__erin")
    }).pipe(Effect.scoped)
  )

  it.effect("are refused where nobody says who logs in", () =>
    Effect.gen(function* () {
      const source = PgConnectionSource.layer({ url: (yield* TestPostgres.TestPostgres).superuserUrl })
      const context = yield* Layer.build(ConnectionPool.layer({ max: 1 }).pipe(Layer.provide(source)))
      const pool = yield* Effect.provide(ConnectionPool.ConnectionPool, context)
      const { message } = yield* Effect.flip(Effect.scoped(pool.lease({ role: "alice" })))
      assert.include(message, "no option login")
      // Nor is anything run for nobody.
      const driver = yield* Effect.provideContext(PgQueryDriver.makePerPrincipal, context)
      assert.include((yield* Effect.flip(driver.open)).message, "for no principal")
    }).pipe(Effect.scoped)
  )
})
