/**
 * Two instances in one process that share a journal, on an engine of the test's. The one that is to die stands still: it renews no
 * lease, notices nothing, and goes on with what it runs.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as PgQueryJournal from "../../src/postgres/PgQueryJournal.ts"
import * as QueryJournal from "../../src/query/QueryJournal.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import { eventually } from "./conditions.ts"
import * as Shared from "./sharedQueries.ts"

export const alice = "alice"

/** Starts both, each with an engine of its own, made over its journal. */
export const two = <E>(engine: Effect.Effect<QueryRegistry.Engine, E, Scope.Scope>) =>
  Effect.gen(function* () {
    const { url } = yield* Shared.database
    const ask = (sql: string) => Effect.scoped(Effect.flatMap(PgConnection.make({ url }), (it) => it.queryValues(sql)))
    const start = Effect.fnUntraced(function* (options: Partial<PgQueryJournal.Options>) {
      const journal = yield* PgQueryJournal.make({ url, ...options })
      const registry = yield* Effect.flatMap(engine, (engine) =>
        QueryRegistry.makeEngines(new Map([[QueryRegistry.defaultEngine, engine]]), { drain: 0 })
      ).pipe(Effect.provideService(QueryJournal.QueryJournal, journal), Effect.provide(QueryResults.layerMemory()))
      yield* eventually(Effect.sync(journal.isValid), (isValid) => isValid)
      const submit = (sql: string, more: Partial<QueryRegistry.Submission> = {}) =>
        registry.submit({ statement: { sql, params: [] }, principal: alice, ...more })
      return { registry, submit }
    })
    const dying = yield* start({ instance: "dying", beat: "1 hour" })
    const other = yield* start({ instance: "other", beat: "100 millis" })
    return {
      dying,
      other,
      ask,
      notes: ask("select handle from holdfast.query_backends"),
      die: ask(
        "update holdfast.query_instances set lease_until = clock_timestamp() - interval '1 second', ended_at = clock_timestamp() where name = 'dying'"
      )
    }
  })
