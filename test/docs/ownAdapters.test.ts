import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Own from "../../docs/examples/own-adapters.ts"
import * as SessionMiddleware from "../../src/http/SessionMiddleware.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Query from "../../src/query/Query.ts"
import * as MemorySessionStore from "../../src/session/MemorySessionStore.ts"
import * as Session from "../../src/session/Session.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"

describe("docs/examples/own-adapters.ts", () => {
  it.live("a store becomes the sessions of an app", () =>
    Effect.gen(function* () {
      class Visits extends Session.Service<Visits>()("test/OwnVisits", { data: Schema.Int, initial: 0 }) {}
      const visit = Effect.gen(function* () {
        return HttpServerResponse.text(String(yield* (yield* Visits).modify((count) => count + 1)))
      })
      const origin = "http://localhost"
      const routes = HttpRouter.addAll([HttpRouter.route("GET", "/", visit)]).pipe(
        Layer.provide(SessionMiddleware.make(Visits).middleware),
        Layer.provide(Own.sessionsOf(MemorySessionStore.layerWith({ pruning: false }), { origin }))
      )
      const app = Layer.provideMerge(HttpRouter.serve(routes), NodeHttpServer.layerTest)
      const answer = yield* Effect.flatMap(HttpClient.get("/"), ({ text }) => text).pipe(Effect.provide(app))
      assert.strictEqual(answer, "1")
    }).pipe(Effect.provideService(References.MinimumLogLevel, "None"))
  )

  it.effect("a driver counts, says what is wrong, and leaves nothing", () =>
    Effect.gen(function* () {
      const rows = (sql: string) =>
        Effect.flatMap(Query.Query, ({ rows }) => Stream.runCollect(rows)).pipe(
          Effect.provide(Query.layer(sql)),
          Effect.provide(Own.layerCounter)
        )
      assert.deepStrictEqual(yield* rows("count to 3"), [[1], [2], [3]])
      assert.lengthOf(yield* rows("count to 250"), 250)
      assert.deepStrictEqual(yield* rows("count to 0"), [])
      assert.strictEqual((yield* Effect.flip(rows("select 1"))).reason._tag, "StatementFailed")
      yield* LedgerRecorder.assertEmpty()
    }).pipe(Effect.provide(Ledger.layer))
  )
})
