import { assert, describe, it } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Outages from "../../src/lifetime/internal/Outages.ts"
import * as PgOutages from "../../src/postgres/internal/PgOutages.ts"
import * as PgTokenRepository from "../../src/postgres/PgTokenRepository.ts"
import { eventually } from "../support/conditions.ts"
import { urlOf } from "../support/postgres.ts"
import { instance, pgWorld } from "../support/sessions.ts"
import { keys } from "../support/tokens.ts"
import { create, session } from "../../src/testing/internal/SessionSamples.ts"

const recorder = () => {
  const lines: Array<string> = []
  return { lines, outages: Outages.makeUnsafe((line) => Effect.sync(() => void lines.push(line))) }
}

describe("what is told of a database that cannot be used", () => {
  it.live("sessions and tokens say why, once each, whoever asks and however often", () =>
    Effect.gen(function* () {
      const { lines, outages } = recorder()
      const wrong = new URL(Redacted.value(urlOf("nowhere")))
      yield* Effect.gen(function* () {
        const url = Redacted.make(wrong.href)
        const repository = yield* PgTokenRepository.make({ url, keys })
        for (let times = 0; times < 3; times++) yield* Effect.flip(repository.get("alice"))
        const store = yield* instance({ url })
        for (let times = 0; times < 3; times++) yield* Effect.flip(store.ping)
      }).pipe(Effect.provideService(Outages.Outages, outages), Effect.scoped)
      // One server, one cause: it is told by whoever meets it first.
      assert.deepStrictEqual(lines, [
        `The database of tokens (127.0.0.1:${wrong.port}/nowhere) cannot be used: database "nowhere" does not exist (3D000)`
      ])
    })
  )

  it.live("a database that writes no more is told, while reading goes on, and that it does again", () =>
    Effect.gen(function* () {
      const { lines, outages } = recorder()
      const { connection, name, url } = yield* pgWorld
      const store = yield* Effect.provideService(instance({ url }), Outages.Outages, outages)
      const wanted = session()
      yield* create(store, wanted)
      assert.deepStrictEqual(lines, [])
      yield* connection.query(`alter database ${name} set default_transaction_read_only = on`)
      yield* connection.query(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1 and application_name = 'holdfast-sessions'",
        [name]
      )
      const make = Effect.suspend(() => create(store, session({ principal: null })))
      const readOnly = Effect.sync(() => lines.filter((line) => line.includes("(25006)")))
      yield* eventually(Effect.andThen(Effect.ignore(make), readOnly), (found) => found.length > 0)
      for (let times = 0; times < 20; times++)
        yield* Effect.all([Effect.ignore(store.load(wanted.token)), Effect.ignore(make)])
      assert.lengthOf(yield* readOnly, 1)
      // The connections that were ended have been told, and their end may have been over before.
      const since = lines.findIndex((line) => line.includes("(25006)"))
      const again = Effect.sync(() => lines.slice(since).filter((line) => line.endsWith("can be used again")))
      assert.lengthOf(yield* again, 0)
      const admin = yield* PgConnection.make({ url, applicationName: "admin" })
      yield* admin.query("set default_transaction_read_only = off")
      yield* admin.query(`alter database ${name} reset default_transaction_read_only`)
      yield* admin.query(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1 and application_name = 'holdfast-sessions'",
        [name]
      )
      const both = Effect.all([Effect.ignore(store.load(wanted.token)), Effect.ignore(make)])
      yield* eventually(Effect.andThen(both, again), (found) => found.length === 1, "20 seconds")
    })
  )

  it("says what the server said without the values of rows, and what the system said where it has no words", () => {
    const cause = Object.assign(new Error('duplicate key value violates unique constraint "t_pkey"\nmore'), {
      code: "23505",
      detail: "Key (name)=(alice) already exists."
    })
    assert.strictEqual(PgOutages.why(cause), `duplicate key value violates unique constraint "t_pkey" (23505)`)
    assert.strictEqual(PgOutages.why(Object.assign(new AggregateError([]), { code: "ECONNREFUSED" })), "ECONNREFUSED")
    assert.isUndefined(PgOutages.whyStatement(cause))
  })
})
