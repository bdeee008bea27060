import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Lifetime from "../../src/lifetime/Lifetime.ts"
import { QueryDriver } from "../../src/query/QueryDriver.ts"
import type { QueryId } from "../../src/query/QueryId.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import * as QueryEvents from "../../src/server/QueryEvents.ts"
import * as ScriptedQueryDriver from "../../src/testing/ScriptedQueryDriver.ts"

const principal = "alice"

/** A query that runs until it is cancelled, or is over at once, in a session. */
const running = (turns: number) =>
  Effect.gen(function* () {
    const { driver } = ScriptedQueryDriver.make({
      execute: (_, sink, execution) => ScriptedQueryDriver.answer({ turns }, sink, execution)
    })
    const queries = yield* QueryRegistry.make().pipe(
      Effect.provideService(QueryDriver, driver),
      Effect.provide(QueryResults.layerMemory())
    )
    const session = yield* Lifetime.scoped({ kind: "session", id: "s" })
    const { id } = yield* queries.submit({ principal, owner: session, statement: { sql: "", params: [] } })
    const watch = (end: Effect.Effect<void>, after = 0) =>
      QueryEvents.watch(queries, { principal, id, after, session, end }).pipe(
        Stream.map(({ record }) => record.state),
        Stream.runCollect
      )
    const isRunning = (id: QueryId) =>
      queries.events(principal, id).pipe(
        Stream.takeUntil(({ record }) => record.state === "Running"),
        Stream.runDrain
      )
    yield* isRunning(id)
    return { queries, session, id, watch }
  })

const open = Effect.flatMap(Ledger.Ledger, ({ holdings }) =>
  Effect.map(holdings, (all) => all.filter(({ kind }) => kind === "event stream"))
)

describe("watching a query", () => {
  it.effect("who comes while the service drains is told what has happened, and no more", () =>
    Effect.gen(function* () {
      const { watch } = yield* running(Infinity)
      assert.deepStrictEqual(yield* watch(Effect.void), ["Queued", "Starting", "Running"])
      assert.deepStrictEqual(yield* watch(Effect.void, 2), ["Running"])
      assert.deepStrictEqual(yield* watch(Effect.void, 3), [])
      assert.deepStrictEqual(yield* open, [])
    }).pipe(Effect.provide(Ledger.layer))
  )

  it.effect("who comes when the session is over is told how the query ended", () =>
    Effect.gen(function* () {
      const { session, watch } = yield* running(Infinity)
      yield* session.end()
      const all = ["Queued", "Starting", "Running", "Canceling", "Canceled"]
      assert.deepStrictEqual(yield* watch(Effect.never), all)
    }).pipe(Effect.provide(Ledger.layer))
  )

  it.effect("who watches stands in the ledger under the session until the end of the session is told", () =>
    Effect.gen(function* () {
      const { session, watch } = yield* running(Infinity)
      const fiber = yield* Effect.forkChild(watch(Effect.never), { startImmediately: true })
      const [held] = yield* Effect.repeat(open, { until: ({ length }) => length === 1 })
      assert.strictEqual(held?.parent, session.entry.key)
      yield* session.end()
      assert.strictEqual((yield* Fiber.join(fiber)).at(-1), "Canceled")
      assert.deepStrictEqual(yield* open, [])
    }).pipe(Effect.provide(Ledger.layer))
  )

  it.effect("one who is slow to read is told of the end all the same when the session is over by then", () =>
    Effect.gen(function* () {
      const { id, queries, session } = yield* running(Infinity)
      const told: Array<string> = []
      yield* QueryEvents.watch(queries, { principal, id, after: 0, session, end: Effect.never }).pipe(
        Stream.rechunk(1),
        Stream.runForEach(({ record: { state } }) => {
          told.push(state)
          return state === "Running" ? session.end() : Effect.void
        })
      )
      assert.deepStrictEqual(told, ["Queued", "Starting", "Running", "Canceling", "Canceled"])
    }).pipe(Effect.provide(Ledger.layer))
  )

  it.effect("a query that is over is told to the end, whoever asks", () =>
    Effect.gen(function* () {
      const { id, queries, watch } = yield* running(0)
      yield* queries.await(principal, id)
      assert.deepStrictEqual(yield* watch(Effect.void), ["Queued", "Starting", "Running", "Succeeded"])
      assert.deepStrictEqual(yield* watch(Effect.never), ["Queued", "Starting", "Running", "Succeeded"])
    }).pipe(Effect.provide(Ledger.layer))
  )
})
