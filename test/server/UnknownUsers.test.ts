import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as PgDirect from "../../src/postgres/internal/PgDirect.ts"
import * as Users from "../../src/server/Users.ts"
import * as UsersMigrations from "../../src/server/UsersMigrations.ts"
import { freshDatabase } from "../support/postgres.ts"

/** The shortest of three times that a wrong password of a name takes to be refused. */
const refusalOf = (name: string) =>
  Effect.gen(function* () {
    const users = yield* Users.Users
    const times: Array<number> = []
    for (let n = 0; n < 3; n++) {
      const isTheirs = yield* users.find(name)
      const [took, user] = yield* Effect.timed(isTheirs(Redacted.make("wrong")))
      assert.isTrue(Option.isNone(user))
      times.push(Duration.toMillis(took))
    }
    return Math.min(...times)
  })

describe("users that there are not", () => {
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
