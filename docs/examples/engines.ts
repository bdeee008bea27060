// Engines for queries: several in one registry, and any SqlClient as one.
import { Context, Effect, Layer } from "effect"
import type { Redacted } from "effect"
import { ConnectionPool, QueryDriver, QueryRegistry, QueryResults } from "holdfast"
import * as MysqlConnectionSource from "holdfast/mysql/MysqlConnectionSource"
import * as MysqlQueryDriver from "holdfast/mysql/MysqlQueryDriver"
import * as SqlQueryDriver from "holdfast/sql/SqlQueryDriver"
import * as SqliteConnectionSource from "holdfast/sqlite/SqliteConnectionSource"
import * as SqliteQueryDriver from "holdfast/sqlite/SqliteQueryDriver"

// #region several
/** MariaDB and a SQLite file in one registry. Each has a pool and places of its own; records and keys are in one place. */
export const layerBoth = (lake: Redacted.Redacted<string>, file: string) =>
  Layer.effect(
    QueryRegistry.QueryRegistry,
    Effect.gen(function* () {
      const driverOf = <E>(layer: Layer.Layer<QueryDriver.QueryDriver, E>) =>
        Effect.map(Layer.build(layer), (built) => Context.get(built, QueryDriver.QueryDriver))
      const mysql = MysqlQueryDriver.layer.pipe(
        Layer.provide(ConnectionPool.layer({ max: 10 })),
        Layer.provide(MysqlConnectionSource.layer({ url: lake }))
      )
      const sqlite = SqliteQueryDriver.layer.pipe(
        Layer.provide(ConnectionPool.layer({ max: 4 })),
        Layer.provide(SqliteConnectionSource.layer({ url: `sqlite:${file}` }))
      )
      return yield* QueryRegistry.makeEngines(
        new Map([
          ["lake", { driver: yield* driverOf(mysql), limits: { maxRunning: 10 } }],
          ["files", { driver: yield* driverOf(sqlite), limits: { maxRunning: 4 } }]
        ])
      )
    })
  ).pipe(Layer.provide(QueryResults.layerMemory()))
// #endregion

// #region plain
/** Whatever `SqlClient` an app has, with what is true of it: it streams, and writes its placeholders as `$1`. */
export const layerOwn = SqlQueryDriver.layer({
  ...SqlQueryDriver.plain,
  capabilities: { ...SqlQueryDriver.plain.capabilities, streams: true, placeholder: "$1" }
})
// #endregion

// #region cancel
/** An engine whose statements another connection can end. Until `run` is over, `cancel` is called again and again. */
export const cancelled = (
  base: SqlQueryDriver.Engine,
  cancel: NonNullable<SqlQueryDriver.Engine["cancel"]>
): SqlQueryDriver.Engine => ({
  ...base,
  capabilities: { ...base.capabilities, cancel: "statement" },
  cancel
})
// #endregion
