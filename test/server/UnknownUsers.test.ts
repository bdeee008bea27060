import { assert, describe, it } from "@effect/vitest"
import { randomBytes, scryptSync } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as PgDirect from "../../src/postgres/internal/PgDirect.ts"
import * as Passwords from "../../src/server/Passwords.ts"
import * as Users from "../../src/server/Users.ts"
import * as UsersMigrations from "../../src/server/UsersMigrations.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"

/**
 * The least of some processor times that a wrong password of a name takes to be refused, in microseconds. What a client sees is the
 * time of the day, but that tells as much about whatever else the machine does.
 */
const refusalOf = (name: string) =>
  Effect.gen(function* () {
    const users = yield* Users.Users
    const times: Array<number> = []
    for (let n = 0; n < 3; n++) {
      const isTheirs = yield* users.find(name)
      const before = process.cpuUsage()
      const user = yield* isTheirs(Redacted.make("wrong"))
      const { system, user: own } = process.cpuUsage(before)
      assert.isTrue(Option.isNone(user))
      times.push(own + system)
    }
    return Math.min(...times)
  })

/** A hash that is as quick as none of today's. */
const oldHash = (password: string) => {
  const salt = randomBytes(16)
  const key = scryptSync(password, salt, 32, { N: 2 ** 10, r: 8, p: 1 })
  return `scrypt$1024$8$1$${salt.toString("base64url")}$${key.toString("base64url")}`
}

describe("a user that is to be there", () => {
  it.live(
    "is made once, however many processes start at once, and keeps sessions as long as the password is the same",
    () =>
      Effect.gen(function* () {
        const { url } = yield* freshDatabase
        yield* UsersMigrations.migrate(url)
        yield* Effect.gen(function* () {
          const { ensure, find, remove } = yield* Users.Users
          const sql = yield* SqlClient.SqlClient
          yield* sql`create table public.writes (owes text)`
          yield* sql`create function public.wrote() returns trigger language plpgsql as
          $$ begin insert into public.writes values (new.owes); return new; end $$`
          yield* sql`create trigger wrote after insert or update on holdfast.users
          for each row execute function public.wrote()`
          const writes = Effect.map(sql`select owes from public.writes`, ({ length }) => length)
          const start = (password: string) =>
            Effect.forEach(
              Array.from({ length: 4 }),
              () => ensure({ name: "demo", operator: true, password: Redacted.make(password) }),
              { concurrency: "unbounded", discard: true }
            )
          const logsIn = (password: string) =>
            Effect.map(
              Effect.flatMap(find("demo"), (isTheirs) => isTheirs(Redacted.make(password))),
              Option.isSome
            )
          for (const [password, count] of [
            ["first", 1],
            ["first", 1],
            ["second", 2]
          ] as const) {
            yield* start(password)
            assert.strictEqual(yield* writes, count)
            assert.isTrue(yield* logsIn(password))
          }
          yield* remove("demo")
          yield* start("second")
          assert.strictEqual(yield* writes, 4)
          assert.isTrue(yield* logsIn("second"))
        }).pipe(Effect.provide(Users.layer), Effect.provide(PgDirect.layer("users", { url, maxConnections: 4 })))
      }).pipe(Effect.scoped)
  )
})

describe("users that there are not", () => {
  it.live("the hash of an old password is replaced at login, and tells nobody's time apart meanwhile", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      yield* UsersMigrations.migrate(url)
      const database = PgDirect.layer("users", { url, maxConnections: 1 })
      yield* Effect.gen(function* () {
        const { find, put } = yield* Users.Users
        const sql = yield* SqlClient.SqlClient
        for (const name of ["alice", "bob"]) yield* put({ name, operator: false, password: Redacted.make("right") })
        yield* sql`update holdfast.users set password_hash = ${oldHash("right")}, owes = null where name = 'bob'`
        const hash = Effect.map(
          sql`select password_hash, owes from holdfast.users where name = 'bob'`,
          ([row]) => row ?? assert.fail()
        )
        const before = yield* hash
        const [alice, bob, nobody] = [yield* refusalOf("alice"), yield* refusalOf("bob"), yield* refusalOf("nobody")]
        assert.isBelow(Math.max(alice, bob, nobody), 2 * Math.min(alice, bob, nobody))
        assert.deepStrictEqual(yield* hash, before)

        const login = Effect.flatMap(find("bob"), (isTheirs) => isTheirs(Redacted.make("right")))
        assert.isTrue(Option.isSome(yield* login))
        const after = yield* eventually(hash, ({ password_hash }) => password_hash !== before["password_hash"])
        assert.match(String(after["password_hash"]), /^scrypt\$32768\$8\$3\$/)
        // Nobody's sessions are to be ended: it is the same password.
        assert.isNull(after["owes"])
        assert.isTrue(Option.isSome(yield* login))
        assert.deepStrictEqual(yield* hash, after)
      }).pipe(Effect.provide(Users.layer), Effect.provide(database))
    }).pipe(Effect.scoped)
  )

  it.live("an old hash takes the place of no newer password", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      yield* UsersMigrations.migrate(url)
      const database = PgDirect.layer("users", { url, maxConnections: 1 })
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const newer = oldHash("newer")
        yield* Effect.gen(function* () {
          const { find, put } = yield* Users.Users
          yield* put({ name: "bob", operator: false, password: Redacted.make("any") })
          yield* sql`update holdfast.users set password_hash = ${oldHash("right")}`
          const isTheirs = yield* find("bob")
          assert.isTrue(Option.isSome(yield* isTheirs(Redacted.make("right"))))
          yield* sql`update holdfast.users set password_hash = ${newer}`
          // The replacement that is under way has had its turn when two later ones had theirs.
          yield* Effect.all([Passwords.hash(Redacted.make("a")), Passwords.hash(Redacted.make("b"))], {
            concurrency: 2
          })
        }).pipe(Effect.provide(Users.layer))
        const [row] = yield* sql`select password_hash from holdfast.users`
        assert.strictEqual(row?.["password_hash"], newer)
      }).pipe(Effect.provide(database))
    }).pipe(Effect.scoped)
  )

  it.live("a wrong password takes as long for a name that nobody has as for one that somebody has", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      yield* UsersMigrations.migrate(url)
      yield* Effect.gen(function* () {
        const { put } = yield* Users.Users
        yield* put({ name: "alice", operator: false, password: Redacted.make("right") })
        const known = yield* refusalOf("alice")
        for (const name of ["nobody", "a\0b", "\ud800", ""]) {
          assert.isAbove(yield* refusalOf(name), known / 2, JSON.stringify(name))
        }
      }).pipe(Effect.provide(Users.layer), Effect.provide(PgDirect.layer("users", { url, maxConnections: 1 })))
    }).pipe(Effect.scoped)
  )
})
