import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import { QueryDriver } from "../../src/query/QueryDriver.ts"
import { queryDriverLaws } from "../query/queryDriverLaws.ts"
import { busyBackends } from "../support/conditions.ts"
import { postgres } from "../support/driverDialects.ts"
import { withQueries } from "../support/queries.ts"

queryDriverLaws({
  name: "PostgreSQL",
  capabilities: PgQueryDriver.capabilities,
  dialect: postgres,
  law: (name, body) =>
    it.live(name, () =>
      withQueries(({ name }) =>
        Effect.flatMap(QueryDriver, (driver) =>
          body({ driver, running: Effect.map(busyBackends(name), ({ length }) => length) })
        )
      )
    )
})
