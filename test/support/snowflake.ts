/** A driver for Snowflake against the local server, on a database of its own. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import type { QueryDriver } from "../../src/query/QueryDriver.ts"
import * as SnowflakeQueryDriver from "../../src/snowflake/SnowflakeQueryDriver.ts"
import * as SnowflakeServer from "../../src/testing/SnowflakeServer.ts"
import { eventually } from "./conditions.ts"
import { freshDatabase } from "./postgres.ts"
import * as SnowflakeDescription from "./snowflakeDescription.ts"

type Server = SnowflakeServer.SnowflakeServer["Service"]

/** What a test has: the server, the name of its database, and the driver. */
export interface World {
  readonly server: Server
  readonly database: string
}

type Services = QueryDriver | SnowflakeQueryDriver.SnowflakeStatements | Scope.Scope

/** As for a fast server nearby. */
export const optionsOf = (server: Server): SnowflakeQueryDriver.Options => ({
  url: server.url,
  database: "TEST",
  schema: "PUBLIC",
  warehouse: "SMALL",
  token: { type: "PROGRAMMATIC_ACCESS_TOKEN", token: server.token },
  firstPoll: "2 millis",
  longestPoll: "50 millis"
})

/** A server for the current scope, whose messages are compared with the description of the API. */
export const serverOf = (options?: Partial<SnowflakeServer.Options>) =>
  Effect.gen(function* () {
    const { name, url } = yield* freshDatabase
    const server = yield* SnowflakeServer.make({ url, onExchange: SnowflakeDescription.check, ...options })
    return { server, database: name }
  })

/** Runs a test with a server, a driver and a ledger of its own. When it is over the server has no connection and runs nothing. */
export const withSnowflake = <A, E>(
  test: (world: World) => Effect.Effect<A, E, Services>,
  more: {
    readonly server?: Partial<SnowflakeServer.Options>
    readonly driver?: Partial<SnowflakeQueryDriver.Options>
  } = {}
) =>
  Effect.gen(function* () {
    const world = yield* serverOf(more.server)
    const options = { ...optionsOf(world.server), ...more.driver }
    const result = yield* test(world).pipe(
      Effect.scoped,
      Effect.provide(SnowflakeQueryDriver.layer(options)),
      Effect.provide(Layer.fresh(Ledger.layer))
    )
    SnowflakeDescription.assertKept()
    yield* eventually(world.server.sockets, (count) => count === 0)
    yield* eventually(world.server.running, (count) => count === 0)
    return result
  }).pipe(Effect.scoped)
