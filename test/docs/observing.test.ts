import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import { held, layerAudit, layerMetrics } from "../../docs/examples/observing.ts"
import { AppSession } from "../../docs/examples/three-layers.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as PgConnectionPool from "../../src/postgres/PgConnectionPool.ts"
import * as MemorySessionStore from "../../src/session/MemorySessionStore.ts"
import * as Sessions from "../../src/session/Sessions.ts"
import { freshDatabase } from "../support/postgres.ts"

describe("the example of watching", () => {
  it.live("writes what happens to sessions to a table, counts it for Prometheus, and shows what is held", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const connection = yield* PgConnection.make({ url })
      yield* connection.query("create table session_events (session text, event text)")
      yield* Effect.gen(function* () {
        const { record, token } = yield* AppSession.create({ principal: "alice" })
        yield* Effect.provide(
          Effect.gen(function* () {
            const lines = (yield* held).filter((line) => line.startsWith(`session ${record.id} (held), taken at `))
            assert.lengthOf(lines, 1)
            yield* (yield* AppSession).logout
          }),
          AppSession.layer(token)
        )
        const { rows } = yield* connection.query("select event from session_events where session = $1", [record.id])
        assert.deepStrictEqual(
          rows.map(({ event }) => event),
          ["Created", "Authenticated", "Revoked"]
        )
      }).pipe(
        Effect.provide(
          Sessions.layer().pipe(
            Layer.provide(MemorySessionStore.layer),
            Layer.provideMerge(layerAudit),
            Layer.provide(PgConnectionPool.layer({ url }))
          )
        )
      )
      const { dispose, handler } = HttpRouter.toWebHandler(
        layerMetrics.pipe(Layer.provideMerge(HttpServer.layerServices)),
        { disableLogger: true }
      )
      const text = yield* Effect.promise(async () => await (await handler(new Request("http://app/metrics"))).text())
      yield* Effect.promise(() => dispose())
      assert.match(text, /^holdfast_sessions_events_total\{event="session.authenticated"\} 1$/m)
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )
})
