import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { QueryDriver } from "../../src/query/QueryDriver.ts"
import * as SnowflakeQueryDriver from "../../src/snowflake/SnowflakeQueryDriver.ts"
import { queryDriverLaws } from "../query/queryDriverLaws.ts"
import { busyBackends } from "../support/conditions.ts"
import { snowflake } from "../support/driverDialects.ts"
import { withSnowflake } from "../support/snowflake.ts"

queryDriverLaws({
  name: "Snowflake",
  capabilities: SnowflakeQueryDriver.capabilities,
  dialect: snowflake,
  law: (name, body) =>
    it.live(name, () =>
      withSnowflake(
        ({ database, server }) =>
          Effect.flatMap(QueryDriver, (driver) =>
            body({
              driver,
              running: Effect.flatMap(server.running, (running) =>
                Effect.map(busyBackends(database), ({ length }) => Math.max(running, length))
              )
            })
          ),
        { server: { partitionBytes: 20_000 } }
      )
    )
})
