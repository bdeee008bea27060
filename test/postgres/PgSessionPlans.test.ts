import { assert, describe, it } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import { instance } from "../support/sessions.ts"
import { freshDatabase } from "../support/postgres.ts"
import { session } from "../../src/testing/internal/SessionSamples.ts"

const all = <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) => Effect.all(effects, { concurrency: 32 })

describe("PgSessionStore", () => {
  // The server plans what it knows, and it counts the rows of a new table after a minute at the earliest.
  it.live(
    "no operation reads more rows because more sessions are live, also where the tables were empty at first",
    () =>
      Effect.gen(function* () {
        const { url } = yield* freshDatabase
        yield* PgSessionStore.migrate({ url })
        const connection = yield* PgConnection.make({ url })
        // A backend reports what it did when it goes.
        const read = Effect.gen(function* () {
          yield* Effect.repeat(
            connection.queryValues(
              "select not exists (select from pg_stat_activity where application_name = 'holdfast-sessions')"
            ),
            { until: ([row]) => row?.[0] === true }
          )
          const [row] = yield* connection.queryValues(
            `select (select sum(seq_tup_read) from pg_stat_user_tables where schemaname = 'holdfast')::int
             + (select sum(idx_tup_read) from pg_stat_user_indexes where schemaname = 'holdfast')::int`
          )
          return Number(row?.[0])
        })
        const rows = (count: number) =>
          Effect.gen(function* () {
            const before = yield* read
            yield* Effect.scoped(
              Effect.gen(function* () {
                const store = yield* instance({ url, applicationName: "holdfast-sessions" })
                const wanted = Array.from({ length: count }, (_, index) => session({ principal: `user ${index}` }))
                for (const batch of [wanted.slice(0, 8), wanted.slice(8)]) {
                  const logins = yield* all(batch.map((one) => store.create(one)))
                  yield* all(batch.map(({ token }) => store.load(token)))
                  // The second asks whether what is remembered of the first still holds.
                  yield* all(batch.map(({ token }) => store.load(token)))
                  yield* all(
                    logins.map(({ record }) =>
                      store.update({ id: record.id, version: record.version, data: 1, dataVersion: 1 })
                    )
                  )
                  yield* all(logins.map(({ record }) => store.revoke(record.id)).slice(0, 8))
                }
              })
            )
            return (yield* read) - before
          })
        yield* rows(10)
        assert.isBelow((yield* rows(400)) / 400, 12)
      })
  )
})
