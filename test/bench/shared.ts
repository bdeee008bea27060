/**
 * What a journal that several instances share costs, on a PostgreSQL of its own that syncs nothing to disk and shares the processors
 * with the client, so that only ratios mean something. `HOLDFAST_BENCH_PART` runs one part of it.
 *
 * - *cpu*: processor time of this process for `select 1` submitted and awaited, one after another and ten in flight, over the
 *   registry's own memory and over the journal.
 * - *remote*: from another instance, the time of a status, of a cancel until the terminal state, against the owner's, and how late
 *   an event is told.
 * - *rows*: a million rows written and paged, in local files and in PostgreSQL.
 * - *idle*: transactions a second of an instance that has nothing to do.
 * - *many*: a page of the list of a principal among `HOLDFAST_BENCH_RECORDS` records (1,000,000), and statuses while 100,000 of them
 *   are pruned.
 * - *races*: queries whose owner stands still around its lease, `HOLDFAST_BENCH_RACES` (200): each has one outcome, and ran once.
 * - *chaos*, only by its name: three services behind nginx and one fault after the other, see `sharedChaos.ts`.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as FileQueryResults from "../../src/node/FileQueryResults.ts"
import * as PgQueryJournal from "../../src/postgres/PgQueryJournal.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import { quantile, range, ratios, takeTurns } from "./measure.ts"
import { instance, pool } from "./sharedInstance.ts"
import * as Chaos from "./sharedChaos.ts"
import * as Races from "./sharedRaces.ts"

type Registry = QueryRegistry.QueryRegistry["Service"]

const principal = "bench"
const statement = { sql: "select 1", params: [] }
const sleep = { sql: "select pg_sleep(60)", params: [] }
const mebibyte = 1024 * 1024

const local = (url: Redacted.Redacted<string>, results: Layer.Layer<QueryResults.QueryResults, unknown>) =>
  Effect.map(
    Layer.build(
      QueryRegistry.layer({ reservedRunning: 0, retention: "2 minutes", maxKept: 50 }).pipe(
        Layer.provide([results, pool(url, 10)])
      )
    ),
    (built) => Context.get(built, QueryRegistry.QueryRegistry)
  )

const once = (registry: Registry) =>
  Effect.flatMap(registry.submit({ statement, principal }), ({ id }) => registry.await(principal, id))

const cpuOf = (registry: Registry, inFlight: number) => async () => {
  const times = 1000
  const each = Effect.repeat(once(registry), { times: times / inFlight - 1 })
  const cpu = process.cpuUsage()
  await Effect.runPromise(
    Effect.all(
      Array.from({ length: inFlight }, () => each),
      { concurrency: "unbounded", discard: true }
    )
  )
  const { system, user } = process.cpuUsage(cpu)
  return (user + system) / times
}

const millisOf = <A, E>(work: Effect.Effect<A, E>) =>
  Effect.suspend(() => {
    const begun = performance.now()
    return Effect.map(work, () => performance.now() - begun)
  })

const running = (registry: Registry) =>
  Effect.gen(function* () {
    const { id } = yield* registry.submit({ statement: sleep, principal })
    yield* Stream.runDrain(Stream.takeUntil(registry.events(principal, id), ({ record }) => record.state === "Running"))
    return id
  })

const ask = (url: Redacted.Redacted<string>, sql: string, params: ReadonlyArray<unknown> = []) =>
  Effect.scoped(Effect.flatMap(PgConnection.make({ url }), (it) => it.queryValues(sql, params, false)))

type Within = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Promise<A>

const cpu = async (url: Redacted.Redacted<string>, within: Within) => {
  const memory = await within(local(url, QueryResults.layerMemory()))
  const shared = await within(instance(url))
  for (const inFlight of [1, 10]) {
    const found = await takeTurns({ memory: cpuOf(memory, inFlight), journal: cpuOf(shared.registry, inFlight) }, 7, 2)
    console.table(
      Array.from(found, ([name, values]) => ({
        [`select 1, ${inFlight} in flight`]: name,
        "cpu µs": range(values, 0),
        "to memory": range(ratios(values, found.get("memory") ?? []), 2)
      }))
    )
  }
}

const remote = async (url: Redacted.Redacted<string>, within: Within) => {
  const a = await within(instance(url))
  const b = await within(instance(url))
  const times: Record<string, Array<number>> = {
    status: [],
    "cancel elsewhere": [],
    "cancel own": [],
    "event late": []
  }
  await within(
    Effect.gen(function* () {
      for (let round = 0; round < 200; round++) {
        const id = yield* running(a.registry)
        const seen = Effect.map(
          Stream.runCollect(
            Stream.mapEffect(b.registry.events(principal, id), ({ record }) =>
              Effect.sync(() => ({ at: b.journal.now(), record }))
            )
          ),
          (events) => events
        )
        const watching = yield* Effect.forkChild(seen, { startImmediately: true })
        yield* Effect.sleep("60 millis")
        times.status?.push(yield* millisOf(b.registry.status(principal, id)))
        const by = round % 2 === 0 ? b : a
        const took = yield* millisOf(by.registry.cancel(principal, id))
        times[round % 2 === 0 ? "cancel elsewhere" : "cancel own"]?.push(took)
        for (const { at, record } of yield* Fiber.join(watching)) {
          const since = record.transitions.at(-1)?.at.epochMilliseconds ?? at
          if (record.state !== "Queued" && record.state !== "Starting") times["event late"]?.push(at - since)
        }
      }
    })
  )
  console.table(
    Object.entries(times).map(([what, values]) => ({
      what,
      "p50 ms": quantile(values, 0.5).toFixed(1),
      "p95 ms": quantile(values, 0.95).toFixed(1),
      "most ms": quantile(values, 1).toFixed(1)
    }))
  )
}

const rows = async (url: Redacted.Redacted<string>, within: Within) => {
  const count = Number(process.env.HOLDFAST_BENCH_ROWS ?? "1000000")
  const big = {
    sql: `select generate_series(1, ${count}) as n, 'a row of some text' as text, 1.5::float8 as x`,
    params: []
  }
  const files = await within(local(url, FileQueryResults.layer({ limitBytes: 4096 * mebibyte })))
  const { registry: shared } = await within(instance(url))
  const write = (registry: Registry) => async () => {
    const begun = performance.now()
    const { id } = await within(registry.submit({ statement: big, principal }))
    const { error, state } = await within(registry.await(principal, id))
    if (state !== "Succeeded") throw new Error(`${state}: ${error?.message}`)
    const written = performance.now()
    let offset: number | undefined = 0
    let pages = 0
    while (offset !== undefined && pages < 200) {
      const page: QueryResults.Page = await within(registry.page(principal, id, { offset, limit: 1000 }))
      offset = page.next
      pages++
    }
    return { written: count / (written - begun), paged: (pages * 1000) / (performance.now() - written) }
  }
  const found = await takeTurns({ files: write(files), postgres: write(shared) }, 3)
  const base = found.get("files") ?? []
  console.table(
    Array.from(found, ([name, values]) => ({
      rows: name,
      "thousand/s written": range(
        values.map(({ written }) => written),
        0
      ),
      "to files": range(
        ratios(
          values.map(({ written }) => written),
          base.map(({ written }) => written)
        ),
        2
      ),
      "thousand/s paged": range(
        values.map(({ paged }) => paged),
        0
      )
    }))
  )
}

const idle = async (url: Redacted.Redacted<string>, within: Within) => {
  await within(instance(url))
  await within(Effect.sleep("3 seconds"))
  const count = ask(
    url,
    "select calls::float8 from (select sum(xact_commit) as calls from pg_stat_database where datname = current_database()) s"
  )
  const [[before]] = (await within(count)) as [[number]]
  const seconds = 20
  await within(Effect.sleep(seconds * 1000))
  const [[after]] = (await within(count)) as [[number]]
  // The question itself is one, and its connection asks for two things more.
  console.table([{ "idle transactions/s": ((after - before - 3) / seconds).toFixed(2) }])
}

const many = async (url: Redacted.Redacted<string>, within: Within) => {
  const count = Number(process.env.HOLDFAST_BENCH_RECORDS ?? "1000000")
  await within(
    ask(
      url,
      `insert into holdfast.queries (id, seq, principal, engine, instance, owner, sql, state, transitions, rerun, deadline_ms, retention_ms, row_count, bytes, columns, inline, size, expires_at)
       select 'q_' || gen_random_uuid(), n, 'user ' || n % 1000, 'default', 'i', gen_random_uuid(), '"select 1"', 'Succeeded',
         '[{"state":"Queued","at":1},{"state":"Starting","at":2},{"state":"Running","at":3},{"state":"Succeeded","at":4}]', false, 1, 1, 1, 10, '[]', '[[1]]', 1000,
         clock_timestamp() + interval '1 hour' from generate_series(1, $1::float8::integer) n`,
      [count]
    )
  )
  await within(ask(url, "vacuum analyze holdfast.queries"))
  const { registry } = await within(instance(url))
  const [first] = (await within(registry.list("user 1", { limit: 1 }))).queries
  if (first === undefined) throw new Error("nothing is listed")
  const lists: Array<number> = []
  for (let at = 0; at < 200; at++) lists.push(await within(millisOf(registry.list(`user ${at}`, { limit: 100 }))))
  const quiet: Array<number> = []
  for (let at = 0; at < 2000; at++) quiet.push(await within(millisOf(registry.status("user 1", first.id))))
  await within(
    ask(
      url,
      `update holdfast.queries set expires_at = clock_timestamp() - interval '1 second' where seq <= 100000 and principal <> 'user 1'`
    )
  )
  const { busy, took } = await within(
    Effect.gen(function* () {
      const busy: Array<number> = []
      const pruning = yield* Effect.forkChild(millisOf(registry.prune), { startImmediately: true })
      while (pruning.pollUnsafe() === undefined) busy.push(yield* millisOf(registry.status("user 1", first.id)))
      return { busy, took: yield* Fiber.join(pruning) }
    })
  )
  console.table([
    {
      what: `list of 100 among ${count}`,
      "p50 ms": quantile(lists, 0.5).toFixed(2),
      "p99 ms": quantile(lists, 0.99).toFixed(2)
    },
    { what: "status, quiet", "p50 ms": quantile(quiet, 0.5).toFixed(2), "p99 ms": quantile(quiet, 0.99).toFixed(2) },
    {
      what: `status, while pruning (${(took / 1000).toFixed(1)} s)`,
      "p50 ms": quantile(busy, 0.5).toFixed(2),
      "p99 ms": quantile(busy, 0.99).toFixed(2)
    }
  ])
}

const parts = { cpu, remote, rows, idle, many, races: Races.run }
/** Those that are run by hand, by their name. */
const byHand = { chaos: Chaos.run }

export const run = async () => {
  const wanted = process.env.HOLDFAST_BENCH_PART
  for (const [name, part] of Object.entries({ ...parts, ...byHand })) {
    if (wanted === undefined ? name in byHand : wanted !== name) continue
    const scope = await Effect.runPromise(Scope.make())
    const within: Within = (effect) => Effect.runPromise(Scope.provide(effect, scope))
    const { superuserUrl: url } = await within(TestPostgres.make())
    await within(PgQueryJournal.migrate({ url }))
    await part(url, within)
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
}
