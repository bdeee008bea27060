/**
 * Queries on Snowflake. The document shows the regions of this file; `test/docs/snowflake.test.ts` runs them.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as FileQueryResults from "holdfast/node/FileQueryResults"
import * as QueryRegistry from "holdfast/query/QueryRegistry"
import * as SnowflakeQueryDriver from "holdfast/snowflake/SnowflakeQueryDriver"
import * as SnowflakeServer from "holdfast/testing/SnowflakeServer"
import type * as Redacted from "effect/Redacted"

// #region registry
/** A user with a key pair. Its tokens are made and renewed by the driver. */
const account = SnowflakeQueryDriver.layerConfig({
  account: Config.String("SNOWFLAKE_ACCOUNT"),
  database: Config.succeed("SALES"),
  warehouse: Config.succeed("REPORTS"),
  token: {
    type: Config.succeed("KEYPAIR_JWT" as const),
    account: Config.String("SNOWFLAKE_ACCOUNT"),
    user: Config.String("SNOWFLAKE_USER"),
    privateKey: Config.Redacted("SNOWFLAKE_PRIVATE_KEY")
  }
})

/** Queries by id, as on any other engine. */
export const registryOn = <E>(engine: Layer.Layer<SnowflakeQueryDriver.Provided, E>) =>
  QueryRegistry.layer({ maxRunning: 20 }).pipe(Layer.provide([FileQueryResults.layer(), engine]))

export const registry = registryOn(account)
// #endregion

// #region parameters
/** Where a string would be read as something else, the parameter says its type. */
export const since = (day: string, checksum: string) => ({
  sql: "select ?, ?",
  params: [
    { type: "DATE", value: day },
    { type: "BINARY", value: checksum }
  ]
})
// #endregion

// #region handles
/** Writes the handle of each statement down, so that another process can end it should this one be gone. */
export const noted = (
  options: SnowflakeQueryDriver.Options,
  note: (query: string, handle: string) => Effect.Effect<void>
) => SnowflakeQueryDriver.layer({ ...options, onSubmitted: note })

/** True when Snowflake says that it is over. */
export const endLeftOver = (handle: string) =>
  Effect.flatMap(SnowflakeQueryDriver.SnowflakeStatements, ({ end }) => end(handle))
// #endregion

// #region server
/** A server that speaks as Snowflake does, on a PostgreSQL of the test's, and the driver for it. */
export const local = (postgres: Redacted.Redacted) =>
  Layer.unwrap(
    Effect.map(SnowflakeServer.SnowflakeServer, ({ token, url }) =>
      SnowflakeQueryDriver.layer({ url, token: { type: "PROGRAMMATIC_ACCESS_TOKEN", token } })
    )
  ).pipe(Layer.provideMerge(SnowflakeServer.layer({ url: postgres })))
// #endregion
