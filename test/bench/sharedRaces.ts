/**
 * Queries whose owner stands still around its lease, and goes on when others may have taken over. What a query does is counted by
 * a row that it writes.
 */
import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { QueryId } from "../../src/query/QueryId.ts"
import * as Shared from "./sharedInstance.ts"

const principal = "bench"
const atATime = 20

type Within = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Promise<A>

/** Submits so many queries when it is told to, each of which writes a row, and tells their ids. */
const owner = async () => {
  const url = Redacted.make(process.env.HOLDFAST_BENCH_URL ?? "")
  await Effect.runPromise(
    Effect.scoped(
      Effect.gen(function* () {
        const { registry } = yield* Shared.instance(url, { beat: "300 millis", lease: "1500 millis" })
        process.send?.("ready")
        yield* Effect.forever(
          Effect.gen(function* () {
            yield* Effect.promise(() => once(process, "message"))
            const ids = yield* Effect.forEach(
              Array.from({ length: atATime }, (_, at) => at),
              (at) =>
                registry.submit({
                  statement: {
                    sql: `insert into effects select id from (select current_setting('application_name') as id, pg_sleep(${at % 4 === 3 ? 0 : 0.4})) x`,
                    params: []
                  },
                  principal
                }),
              { concurrency: "unbounded" }
            ).pipe(Effect.orElseSucceed(() => []))
            process.send?.(ids.map(({ id }) => id))
          })
        )
      })
    )
  )
}

const started = async (url: string) => {
  const child: ChildProcess = fork(import.meta.filename, ["owner"], {
    env: { ...process.env, HOLDFAST_BENCH_URL: url }
  })
  await once(child, "message")
  return child
}

export const run = async (url: Redacted.Redacted<string>, within: Within) => {
  const total = Number(process.env.HOLDFAST_BENCH_RACES ?? "200")
  const ask = (sql: string) =>
    within(Effect.flatMap(PgConnection.make({ url }), (it) => it.queryValues(sql, [], false)))
  await ask("create table effects (id text)")
  const { registry } = await within(Shared.instance(url, { beat: "300 millis", lease: "1500 millis" }))
  const child = await started(Redacted.value(url))
  const counts = { queries: 0, Succeeded: 0, Failed: 0, Canceled: 0, changed: 0, twice: 0, lost: 0 }
  while (counts.queries < total) {
    child.send("go")
    const [ids] = (await once(child, "message")) as [ReadonlyArray<string>]
    await within(Effect.sleep(Math.random() * 300))
    child.kill("SIGSTOP")
    await within(Effect.sleep(1200 + Math.random() * 1000))
    child.kill("SIGCONT")
    const outcomes = new Map<string, string>()
    for (const id of ids) {
      const record = await within(registry.await(principal, QueryId.make(id)))
      outcomes.set(id, record.state)
      counts[record.state as "Succeeded"]++
    }
    // What wakes up late must not change anything.
    await within(Effect.sleep("1500 millis"))
    for (const [id, state] of outcomes) {
      const again = await within(registry.status(principal, QueryId.make(id)))
      if (again.state !== state) counts.changed++
    }
    counts.queries += ids.length
  }
  const [[twice]] = (await ask(
    "select count(*)::int from (select id from effects group by id having count(*) > 1) x"
  )) as [[number]]
  const [[missing]] = (await ask(
    "select count(*)::int from holdfast.queries q where state = 'Succeeded' and not exists (select from effects e where e.id = 'holdfast ' || q.id)"
  )) as [[number]]
  child.kill("SIGKILL")
  console.table([{ ...counts, twice, lost: missing }])
}

if (process.argv[2] === "owner") await owner()
