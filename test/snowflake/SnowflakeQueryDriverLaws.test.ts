import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { QueryDriver } from "../../src/query/QueryDriver.ts"
import * as SnowflakeQueryDriver from "../../src/snowflake/SnowflakeQueryDriver.ts"
import * as QueryDriverLaws from "../../src/testing/QueryDriverLaws.ts"
import { busyBackends, eventually } from "../support/conditions.ts"
import { snowflake } from "../support/driverDialects.ts"
import { optionsOf, serverOf } from "../support/snowflake.ts"
import * as SnowflakeDescription from "../support/snowflakeDescription.ts"

const world = Layer.effect(
  QueryDriverLaws.World,
  Effect.gen(function* () {
    const { database, server } = yield* serverOf({ partitionBytes: 20_000 })
    // When the driver has closed, the server has no connection and runs nothing.
    yield* Effect.addFinalizer(() =>
      Effect.gen(function* () {
        SnowflakeDescription.assertKept()
        yield* eventually(server.sockets, (count) => count === 0)
        yield* eventually(server.running, (count) => count === 0)
      }).pipe(Effect.orDie)
    )
    const driver = Context.get(yield* Layer.build(SnowflakeQueryDriver.layer(optionsOf(server))), QueryDriver)
    const running = Effect.flatMap(server.running, (running) =>
      Effect.map(busyBackends(database), ({ length }) => Math.max(running, length))
    )
    return { driver, running }
  })
)

QueryDriverLaws.run(world, { name: "Snowflake", engine: SnowflakeQueryDriver.capabilities, dialect: snowflake })
