import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import { QueryDriver } from "../../src/query/QueryDriver.ts"
import * as QueryDriverLaws from "../../src/testing/QueryDriverLaws.ts"
import { busyBackends } from "../support/conditions.ts"
import { postgres } from "../support/driverDialects.ts"
import { freshDatabase } from "../support/postgres.ts"
import { layerQueries } from "../support/queries.ts"

const world = Layer.effect(
  QueryDriverLaws.World,
  Effect.gen(function* () {
    const { name, url } = yield* freshDatabase
    const driver = Context.get(yield* Layer.build(layerQueries(url)), QueryDriver)
    return { driver, running: Effect.map(busyBackends(name), ({ length }) => length) }
  })
)

QueryDriverLaws.run(world, { name: "PostgreSQL", engine: PgQueryDriver.capabilities, dialect: postgres })
