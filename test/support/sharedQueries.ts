/**
 * Instances in one process that share a journal in a database of the test's own: each has its own registry, connections and
 * scripted driver. An instance lives until it is closed, or the test ends.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as PgQueryJournal from "../../src/postgres/PgQueryJournal.ts"
import * as PgQueryResults from "../../src/postgres/PgQueryResults.ts"
import * as QueryJournal from "../../src/query/QueryJournal.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import type * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import type * as ScriptedQueryDriver from "../../src/testing/ScriptedQueryDriver.ts"
import { eventually } from "./conditions.ts"
import { freshDatabase } from "./postgres.ts"
import * as Scripted from "./scripted.ts"

/** How an instance differs from the usual. */
export interface Options {
  readonly journal?: Partial<PgQueryJournal.Options> | undefined
  readonly results?: Partial<PgQueryResults.Options> | undefined
  readonly registry?: QueryRegistry.Options | undefined
  readonly script?: ScriptedQueryDriver.Script | undefined
  /** What stands between the registry and its journal. */
  readonly between?: ((journal: QueryJournal.Shared) => QueryJournal.Shared) | undefined
  /** Where rows are kept. Default: in the database. */
  readonly kept?: Layer.Layer<QueryResults.QueryResults> | undefined
}

/** A database that has the tables. */
export const database = Effect.tap(freshDatabase, ({ url }) => PgQueryJournal.migrate({ url }))

/** Starts an instance on a database, and waits until it has its lease. */
export const start = Effect.fnUntraced(function* (url: Redacted.Redacted<string>, options: Options = {}) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const shared = yield* Scope.provide(PgQueryJournal.make({ url, ...options.journal }), scope)
  const journal = options.between?.(shared) ?? shared
  const results = yield* Scope.provide(PgQueryResults.make({ url, ...options.results }), scope)
  const kept = options.kept ?? Layer.succeed(QueryResults.QueryResults, results)
  const opened = yield* Scripted.open(options.registry, options.script, kept).pipe(
    Scope.provide(scope),
    Effect.provideService(QueryJournal.QueryJournal, journal)
  )
  yield* eventually(Effect.sync(journal.isValid), (isValid) => isValid)
  return { ...opened, journal, close: Scope.close(scope, Exit.void) }
})
