import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import * as SessionToken from "../../src/session/SessionToken.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"
import { instance } from "../support/sessions.ts"

const text = readFileSync("docs/session-stores.md", "utf8")

const sqlOf = (name: string): string => {
  const [, sql = ""] = new RegExp(`<!-- ${name} -->\n\n\`\`\`sql\n([\\s\\S]*?)\`\`\``).exec(text) ?? []
  assert.notStrictEqual(sql, "", name)
  return sql
}

const statementsOf = (sql: string) =>
  sql
    .replace(/--.*$/gm, "")
    .split(";")
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "")

/** Everything that the server's catalog says of the tables. */
const catalog = `
  select 'column' as kind, table_name::text as name,
    concat_ws(' ', ordinal_position, column_name, data_type, is_nullable, column_default) as what
  from information_schema.columns where table_schema = 'holdfast'
  union all select 'index', tablename::text, indexdef from pg_indexes where schemaname = 'holdfast'
  union all select 'constraint', conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint
    where connamespace = 'holdfast'::regnamespace and contype <> 'n'
  union all select 'options', relname::text, reloptions::text from pg_class
    where relnamespace = 'holdfast'::regnamespace and reloptions is not null
  order by 1, 2, 3`

const described = (url: Redacted.Redacted) =>
  Effect.gen(function* () {
    const connection = yield* PgConnection.make({ url })
    const { rows } = yield* connection.query(catalog)
    return rows.filter(({ name }) => !String(name).includes("migrations"))
  })

describe("docs/session-stores.md", () => {
  it.live("the tables are those that the migration makes", () =>
    Effect.gen(function* () {
      const [documented, migrated] = [yield* freshDatabase, yield* freshDatabase]
      const connection = yield* PgConnection.make({ url: documented.url })
      yield* connection.query("create schema holdfast")
      for (const statement of statementsOf(sqlOf("ddl"))) yield* connection.query(statement)
      yield* PgSessionStore.migrate({ url: migrated.url })
      assert.deepStrictEqual(yield* described(documented.url), yield* described(migrated.url))
    })
  )

  it.live("a role with the grants can do all that the store does, and no more", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      yield* PgSessionStore.migrate({ url })
      const connection = yield* PgConnection.make({ url })
      const [role, password] = [`app_${randomBytes(8).toString("hex")}`, randomBytes(8).toString("hex")]
      yield* Effect.acquireRelease(connection.query(`create role ${role} login password '${password}'`), () =>
        Effect.orDie(Effect.andThen(connection.query(`drop owned by ${role}`), connection.query(`drop role ${role}`)))
      )
      for (const statement of statementsOf(sqlOf("grants"))) {
        yield* connection.query(statement.replace(/\bapp$/, role))
      }
      const own = new URL(Redacted.value(url))
      own.username = role
      own.password = password
      const store = yield* instance({ url: Redacted.make(own.href) })

      const [first, second, third] = [SessionToken.make(), SessionToken.make(), SessionToken.make()].map(
        SessionToken.hash
      )
      const heard: Array<string> = []
      yield* Effect.forkScoped(
        Stream.runForEach(store.ended, (ended) => Effect.sync(() => ended._tag === "Session" && heard.push(ended.id))),
        { startImmediately: true }
      )
      const limits = {
        idleTimeout: Duration.minutes(30),
        absoluteTimeout: Duration.hours(12),
        renewEvery: Duration.hours(1),
        maxPerPrincipal: 5
      }
      if (first === undefined || second === undefined || third === undefined) return assert.fail()
      const create = (token: SessionToken.TokenHash) =>
        Effect.map(
          store.create({ ...limits, token, principal: null, data: {}, dataVersion: 1, device: {} }),
          ({ record }) => record.id
        )
      const id = yield* create(first)
      yield* store.update({ id, version: 1, data: { a: 1 }, dataVersion: 1 })
      const login = { ...limits, token: first, next: second, principal: "alice", device: {} }
      yield* store.authenticate({ ...login, epoch: yield* store.epoch("alice") })
      yield* store.renew({ token: second, next: third })
      yield* store.load(third)
      yield* store.touch(third)
      assert.lengthOf(yield* store.list("alice"), 1)
      assert.deepStrictEqual(yield* store.revokeAll("alice"), [id])
      assert.isFalse(yield* store.revoke(id))
      assert.deepStrictEqual(yield* store.endedOf([id]), [id])
      // It listens when it has a connection for it: ends are heard from then on.
      const end = Effect.suspend(() => Effect.flatMap(create(SessionToken.hash(SessionToken.make())), store.revoke))
      yield* eventually(
        Effect.map(end, () => heard.length),
        (count) => count > 0
      )
      yield* connection.query("update holdfast.sessions set ended_at = ended_at - interval '25 hours'")
      assert.isAbove(Duration.toMillis(yield* store.pruneLag), 0)
      assert.isAbove((yield* store.prune(10)).sessions, 0)
      yield* store.ping

      const beside = yield* PgConnection.make({ url: Redacted.make(own.href) })
      for (const sql of [
        "create table holdfast.mine ()",
        "truncate holdfast.sessions",
        "drop table holdfast.sessions"
      ]) {
        const { message } = yield* Effect.flip(beside.query(sql))
        assert.isString(message)
      }
    })
  )
})
