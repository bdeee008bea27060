/**
 * Everything between a test and statements on the real server: a database of its own, a pool, the driver, a ledger.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgRecycle from "../../src/postgres/PgRecycle.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import type { QueryDriver } from "../../src/query/QueryDriver.ts"
import { freshDatabase } from "./postgres.ts"

/** The layers that run foreign SQL on a database. */
export const layerQueries = (url: Redacted.Redacted<string>, options?: ConnectionPool.Options) =>
  PgQueryDriver.layer.pipe(
    Layer.provideMerge(ConnectionPool.layer(options)),
    Layer.provide(PgConnectionSource.layer({ url, recycle: PgRecycle.foreign, applicationName: "holdfast-test" }))
  )

/** Runs a test with a database, pool and ledger of its own. */
export const withQueries = <A, E>(
  test: (database: {
    readonly url: Redacted.Redacted<string>
    readonly name: string
  }) => Effect.Effect<A, E, QueryDriver | ConnectionPool.ConnectionPool | Scope.Scope>,
  options?: ConnectionPool.Options
) =>
  Effect.gen(function* () {
    const database = yield* freshDatabase
    return yield* test(database).pipe(Effect.scoped, Effect.provide(layerQueries(database.url, options)))
  }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
