import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import * as RedisSessionStore from "../../src/redis/RedisSessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { freshDatabase } from "../support/postgres.ts"
import { freshPrefix, redisUrl } from "../support/redis.ts"

const pings = <E>(layer: Layer.Layer<SessionStore, E>) =>
  Effect.flatMap(Layer.build(layer), (context) => Context.get(context, SessionStore).ping)

describe("options of the session stores", () => {
  for (const operationTimeout of ["30 days", "Infinity"] as const) {
    it.live(`an operationTimeout of ${operationTimeout} counts as the longest there is, 24 days`, () =>
      Effect.gen(function* () {
        const { url } = yield* freshDatabase
        yield* PgSessionStore.migrate({ url, operationTimeout })
        yield* pings(PgSessionStore.layer({ url, operationTimeout, pruning: false }))
        const prefix = yield* freshPrefix
        yield* pings(RedisSessionStore.layer({ url: yield* redisUrl, prefix, operationTimeout, pruning: false }))
      }).pipe(Effect.scoped)
    )
  }

  it.live("a URL that can never work is a defect that says why, and holds no secret, when the store is made", () =>
    Effect.gen(function* () {
      for (const text of ["postgres://u:secret100%@h/db", "postgres://u:secret@h/db?sslmode=secret", "secret"]) {
        const url = Redacted.make(text)
        for (const work of [pings(PgSessionStore.layer({ url })), PgSessionStore.migrate({ url })]) {
          const exit = yield* Effect.exit(work)
          const said = Exit.isFailure(exit) ? Cause.pretty(exit.cause) : ""
          assert.match(said, /The URL of the sessions' database/, text)
          assert.notInclude(said, "secret", text)
        }
      }
    }).pipe(Effect.scoped)
  )
})
