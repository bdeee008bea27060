import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as QueryRegistry from "holdfast/query/QueryRegistry"
import { SnowflakeServer } from "holdfast/testing/SnowflakeServer"
import * as Snowflake from "../../docs/examples/snowflake.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"

it.live("queries run on Snowflake as on any other engine, and a handle that was noted is ended by somebody else", () =>
  Effect.gen(function* () {
    const { url } = yield* freshDatabase
    const local = Snowflake.local(url)
    yield* Effect.gen(function* () {
      const server = yield* SnowflakeServer
      const handles: Array<string> = []
      const options = {
        url: server.url,
        token: { type: "PROGRAMMATIC_ACCESS_TOKEN", token: server.token }
      } as const
      const engine = Snowflake.noted(options, (_, handle) => Effect.sync(() => void handles.push(handle)))
      yield* Effect.gen(function* () {
        const queries = yield* QueryRegistry.QueryRegistry
        const submit = (statement: QueryRegistry.Submission["statement"]) =>
          Effect.map(queries.submit({ principal: "alice", statement }), ({ id }) => id)
        const id = yield* submit(Snowflake.since("2026-01-02", "AP8="))
        assert.strictEqual((yield* queries.await("alice", id)).state, "Succeeded")
        assert.deepStrictEqual(yield* Stream.runCollect(queries.rows("alice", id)), [["2026-01-02", "AP8="]])
        const left = yield* submit({ sql: "select pg_sleep(60)", params: [] })
        yield* eventually(server.running, (count) => count === 1)
        yield* eventually(
          Effect.sync(() => handles.length),
          (count) => count === 2
        )
        assert.isTrue(yield* Snowflake.endLeftOver(handles[1] ?? ""))
        assert.strictEqual((yield* queries.await("alice", left)).state, "Failed")
        assert.strictEqual(yield* server.running, 0)
      }).pipe(Effect.provide(Snowflake.registryOn(engine)))
    }).pipe(Effect.provide(local))
  }).pipe(Effect.scoped)
)
