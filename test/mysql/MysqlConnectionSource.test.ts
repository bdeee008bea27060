import { assert, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as MysqlConnectionSource from "../../src/mysql/MysqlConnectionSource.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import * as MariaDb from "../support/mariadb.ts"

it.live(
  "an end that finds the server started again ends nobody else's connection, although it has the same number",
  () =>
    Effect.gen(function* () {
      const server = yield* MariaDb.make
      const network = yield* FaultProxy.to(server.secretUrl)
      const { open } = yield* MysqlConnectionSource.make({ url: network.url, password: server.password })
      // Numbers go up from one: more than the start of a server uses up.
      let old = yield* open
      for (let count = 0; count < 60; count++) old = yield* open
      yield* server.kill
      yield* server.start
      let other = yield* open
      while (Number(other.id) < Number(old.id)) other = yield* open
      assert.strictEqual(other.id, old.id)
      // No answer comes within the time that the old one is given.
      yield* network.decide(() => ({ delay: 20 }))
      yield* old.expel(Duration.zero)
      yield* other.check
    }).pipe(Effect.scoped, Effect.provide(Reactivity.layer)),
  60_000
)
