/**
 * Queries that several instances of a program share. Each instance builds this; `PgQueryJournal.migrate` runs when it starts.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as ConnectionPool from "holdfast/connection/ConnectionPool"
import * as PgConnectionSource from "holdfast/postgres/PgConnectionSource"
import * as PgQueryBackends from "holdfast/postgres/PgQueryBackends"
import * as PgQueryDriver from "holdfast/postgres/PgQueryDriver"
import * as PgQueryJournal from "holdfast/postgres/PgQueryJournal"
import * as PgQueryResults from "holdfast/postgres/PgQueryResults"
import * as PgRecycle from "holdfast/postgres/PgRecycle"
import { QueryDriver } from "holdfast/query/QueryDriver"
import * as QueryRegistry from "holdfast/query/QueryRegistry"

/** Where the journal is, and where queries run: two databases, or one. */
export interface Databases {
  readonly journal: Redacted.Redacted<string>
  readonly queries: Redacted.Redacted<string>
}

// #region shared
/** A registry that knows the queries of all instances over the same journal. */
export const layerSharedQueries = ({ journal, queries }: Databases) =>
  Layer.effect(
    QueryRegistry.QueryRegistry,
    Effect.gen(function* () {
      // What this instance opens is noted before it is used, so that others can end it.
      const elsewhere = yield* PgQueryBackends.make({ url: queries, engine: "main" })
      const context = yield* Layer.build(
        PgQueryDriver.layer.pipe(
          Layer.provide(ConnectionPool.layer({ max: 10, onOpen: elsewhere.register })),
          Layer.provide(PgConnectionSource.layer({ url: queries, recycle: PgRecycle.foreign }))
        )
      )
      const main = { driver: Context.get(context, QueryDriver), elsewhere }
      return yield* QueryRegistry.makeEngines(new Map([["main", main]]))
    })
  ).pipe(
    Layer.provide(PgQueryResults.layer({ url: journal })),
    // Below all of it: the journal outlives the registry and its connections.
    Layer.provide(PgQueryJournal.layer({ url: journal }))
  )
// #endregion
