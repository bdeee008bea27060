/** An instance of a program over a shared journal, and the pool that its queries run on. They live as long as their scope. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgQueryBackends from "../../src/postgres/PgQueryBackends.ts"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import * as PgQueryJournal from "../../src/postgres/PgQueryJournal.ts"
import * as PgQueryResults from "../../src/postgres/PgQueryResults.ts"
import * as PgRecycle from "../../src/postgres/PgRecycle.ts"
import { QueryDriver } from "../../src/query/QueryDriver.ts"
import * as QueryJournal from "../../src/query/QueryJournal.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"

export const pool = (url: Redacted.Redacted<string>, max: number) =>
  PgQueryDriver.layer.pipe(
    Layer.provide(
      Effect.map(PgQueryBackends.make({ url, engine: QueryRegistry.defaultEngine }), ({ register }) =>
        ConnectionPool.layer({ max, onOpen: register })
      ).pipe(Layer.unwrap)
    ),
    Layer.provide(PgConnectionSource.layer({ url, recycle: PgRecycle.foreign }))
  )

/** An instance over the journal. */
export const instance = Effect.fnUntraced(function* (
  url: Redacted.Redacted<string>,
  options: Partial<PgQueryJournal.Options> = {}
) {
  const journal = yield* PgQueryJournal.make({ url, ...options })
  const shared = Layer.succeed(QueryJournal.QueryJournal, journal)
  const built = yield* Layer.build(
    Layer.mergeAll(pool(url, 10), PgQueryResults.layer({ url })).pipe(Layer.provideMerge(shared))
  )
  const elsewhere = yield* PgQueryBackends.make({ url, engine: QueryRegistry.defaultEngine })
  const engine = { driver: Context.get(built, QueryDriver), elsewhere }
  const registry = yield* QueryRegistry.makeEngines(new Map([[QueryRegistry.defaultEngine, engine]]), {
    reservedRunning: 0,
    retention: "10 minutes"
  }).pipe(Effect.provideContext(built))
  yield* Effect.repeat(Effect.sleep("20 millis"), { while: () => !journal.isValid() })
  return { registry, journal }
})
