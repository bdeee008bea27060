import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as PgQueryRow from "../../src/postgres/internal/PgQueryRow.ts"
import * as PgQuerySql from "../../src/postgres/internal/PgQuerySql.ts"
import * as PgQueryWriter from "../../src/postgres/internal/PgQueryWriter.ts"
import * as QueryId from "../../src/query/QueryId.ts"
import type { QueryRecord } from "../../src/query/QueryRecord.ts"

it.effect("K2 a state on the way that comes late takes no outcome's place", () =>
  Effect.gen(function* () {
    const gate = yield* Deferred.make<void>()
    const sent: Array<string> = []
    const incarnation = "00000000-0000-4000-8000-000000000000"
    const statements = PgQuerySql.make("holdfast", "holdfast_queries")
    const writer = yield* PgQueryWriter.make({
      statements,
      isHeard: () => false,
      ask: (_, params) =>
        Effect.suspend(() => {
          const changes = JSON.parse(String(params[1])) as ReadonlyArray<{ id: string; state: string }>
          sent.push(...changes.map(({ state }) => state))
          const rows = [["me", incarnation], ...changes.map(({ id }) => ["changed", id])]
          return sent.length === 1 ? Effect.as(Deferred.await(gate), rows) : Effect.succeed(rows)
        })
    })
    writer.become(incarnation)
    const [first, second] = [QueryId.make(), QueryId.make()]
    const change = (id: QueryId.QueryId, state: QueryRecord["state"]) => {
      const at = DateTime.makeUnsafe(0)
      const record: QueryRecord = {
        id,
        principal: "alice",
        session: null,
        engine: "default",
        instance: "a",
        sql: "",
        state,
        transitions: [{ state: "Queued", at }],
        expiresAt: at,
        rowCount: null,
        bytes: null,
        notices: [],
        noticesDropped: 0,
        error: null
      }
      const claim = { id, incarnation, attempt: 1 }
      return Effect.forkChild(writer.change(claim, PgQueryRow.changeOf(claim, record)), { startImmediately: true })
    }
    // While one is on its way, the outcome of another waits, and then comes what that one was before.
    const under = yield* change(first, "Running")
    yield* Effect.repeat(Effect.yieldNow, { until: () => sent.length === 1 })
    const all = [under, yield* change(second, "Succeeded"), yield* change(second, "Running")]
    yield* Deferred.succeed(gate, undefined)
    assert.deepStrictEqual(yield* Effect.forEach(all, Fiber.join), [true, true, true])
    assert.deepStrictEqual(sent, ["Running", "Succeeded"])
  }).pipe(Effect.scoped)
)
