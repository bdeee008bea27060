import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { existsSync } from "node:fs"
import * as PgServer from "../../src/testing/PgServer.ts"
import { freshDatabase } from "../support/postgres.ts"

const rows = (url: PgConnection.Config["url"], sql: string) =>
  PgConnection.make({ url }).pipe(
    Effect.flatMap((connection) => connection.queryValues(sql)),
    Effect.scoped
  )

describe("the servers of tests", () => {
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

  it.effect("a server of its own survives a restart and a crash with its data and port, and leaves nothing", () =>
    Effect.gen(function* () {
      const directory = yield* Effect.scoped(
        Effect.gen(function* () {
          const server = yield* PgServer.make({ settings: { max_connections: "17" } })
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
})
