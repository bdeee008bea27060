/**
 * What ten million rows cost in memory, from a real PostgreSQL of its own through the driver and the registry into files,
 * and out of them again, page by page and as a stream. The resident memory of this process is looked at every 20 ms and after each page;
 * what is printed is how far it rose above what it was after a warm-up with 200,000 rows, and how much of that is the space
 * for new objects, which Node lets grow from 32 to 128 MiB in any process that allocates for long (`--max-semi-space-size`).
 *
 * `HOLDFAST_BENCH_ROWS` changes the number. Nothing is synced to disk on purpose, neither by the server nor by us.
 */
import { getHeapSpaceStatistics } from "node:v8"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgRecycle from "../../src/postgres/PgRecycle.ts"
import * as FileQueryResults from "../../src/node/FileQueryResults.ts"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import type { Page } from "../../src/query/QueryResults.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"

const rows = Number(process.env.HOLDFAST_BENCH_ROWS ?? "10000000")
const principal = "bench"
const pageRows = 1000
const mebibyte = 1024 * 1024

const layerQueries = (url: Redacted.Redacted<string>) =>
  QueryRegistry.layer().pipe(
    Layer.provide([FileQueryResults.layer({ limitBytes: 4096 * mebibyte }), PgQueryDriver.layer]),
    Layer.provide(ConnectionPool.layer()),
    Layer.provide(PgConnectionSource.layer({ url, recycle: PgRecycle.foreign }))
  )

/** The highest resident memory while an effect ran, in bytes. */
const highest = <A, E, R>(effect: (look: () => void) => Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    let most = 0
    const look = () => {
      most = Math.max(most, process.memoryUsage.rss())
    }
    const looking = setInterval(look, 20)
    const begun = performance.now()
    return effect(look).pipe(
      Effect.ensuring(Effect.sync(() => clearInterval(looking))),
      Effect.map((value) => ({ value, most, seconds: (performance.now() - begun) / 1000 }))
    )
  })

const write = Effect.fnUntraced(function* (count: number) {
  const registry = yield* QueryRegistry.QueryRegistry
  const statement = {
    sql: `select generate_series(1, ${count}) as n, 'a row of some text' as text, 1.5::float8 as x, null as nothing`,
    params: []
  }
  const { id } = yield* registry.submit({ statement, principal })
  const { error, state } = yield* registry.await(principal, id)
  if (state !== "Succeeded") return yield* Effect.die(new Error(`${state}: ${error?.message}`))
  return id
})

const read = Effect.fnUntraced(function* (
  id: Effect.Success<ReturnType<typeof write>>,
  count: number,
  look: () => void
) {
  const registry = yield* QueryRegistry.QueryRegistry
  let sum = 0
  for (let offset: number | undefined = 0; offset !== undefined;) {
    const page: Page = yield* registry.page(principal, id, { offset, limit: pageRows })
    for (const [n] of page.rows) sum += Number(n)
    offset = page.next
    look()
  }
  if (sum !== (count * (count + 1)) / 2) return yield* Effect.die(new Error("Other rows came out than went in"))
})

/** As `read`, through the registry's stream. */
const stream = Effect.fnUntraced(function* (id: Effect.Success<ReturnType<typeof write>>, count: number) {
  const registry = yield* QueryRegistry.QueryRegistry
  let sum = 0
  yield* Stream.runForEachArray(registry.rows(principal, id), (rows) =>
    Effect.sync(() => {
      for (const [n] of rows) sum += Number(n)
    })
  )
  if (sum !== (count * (count + 1)) / 2) return yield* Effect.die(new Error("Other rows were streamed than went in"))
})

const young = () =>
  getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space")?.space_size ?? Number.NaN

const report = (name: string, most: number, base: { readonly rss: number; readonly young: number }, seconds: number) =>
  console.log(
    `${name.padEnd(8)} +${((most - base.rss) / mebibyte).toFixed(0)} MiB, ${((young() - base.young) / mebibyte).toFixed(0)} of them for new objects   ${((rows / seconds) | 0).toLocaleString("en")} rows/s`
  )

export const run = () =>
  Effect.gen(function* () {
    const { superuserUrl } = yield* TestPostgres.make()
    yield* Effect.gen(function* () {
      yield* read(yield* write(200_000), 200_000, () => undefined)
      const base = { rss: process.memoryUsage.rss(), young: young() }
      console.log(`${rows.toLocaleString("en")} rows, above ${(base.rss / mebibyte).toFixed(0)} MiB`)
      const written = yield* highest(() => write(rows))
      report("written", written.most, base, written.seconds)
      const found = yield* highest((look) => read(written.value, rows, look))
      report("read", found.most, base, found.seconds)
      const streamed = yield* highest(() => stream(written.value, rows))
      report("streamed", streamed.most, base, streamed.seconds)
    }).pipe(Effect.provide(layerQueries(superuserUrl)))
  }).pipe(Effect.scoped, Effect.runPromise)
