/**
 * What it takes to read a large result from Snowflake: the memory of this process over idle, and rows a second, with a reader that
 * takes rows at once and with a slow one, beside which others run statements.
 *
 * The server is the local one, in a process of its own on the same machine: neither the network nor the time that Snowflake takes
 * is in the figures. The statement is executed once, and its result is read again and again by its handle. Start with
 * `NODE_OPTIONS="--expose-gc --max-semi-space-size=16"`: so idle is idle, and V8's space for new objects has the bound that `holdfast`
 * starts with. Without the second one it is as in an app that sets none. `ROWS` is how many rows there are (10 million).
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as Path from "node:path"
import { createInterface } from "node:readline"
import { getHeapSpaceStatistics } from "node:v8"
import { type Execution, QueryDriver, type RowSink } from "../../src/query/QueryDriver.ts"
import * as QueryId from "../../src/query/QueryId.ts"
import * as SnowflakeQueryDriver from "../../src/snowflake/SnowflakeQueryDriver.ts"
import { quantile, range } from "./measure.ts"

const rows = Number(process.env.ROWS ?? "10000000")
const partitions = 200

/** Of a row as it is sent. */
const rowBytes = 68

const sql = `select n, 'customer ' || n as customer, (n % 1000) * 1.25 as amount, timestamp '2026-01-01' + n * interval '1 second' as at
  from generate_series(1000001, ${1_000_000 + rows}) n`

const mebibytes = (bytes: number) => bytes / 2 ** 20

const idle = async () => {
  for (let times = 0; times < 4; times++) {
    globalThis.gc?.()
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return process.memoryUsage().rss
}

/** What V8 keeps for new objects: it grows with the pace at which they are made, once, and not with a result. */
const youngGeneration = () =>
  getHeapSpaceStatistics()
    .filter(({ space_name: name }) => name === "new_space")
    .reduce((sum, { physical_space_size: size }) => sum + size, 0)

interface Memory {
  readonly over: number
  readonly young: number
}

/** The most memory over idle while something runs, in MiB, and how much of it is V8's young generation. */
const watched = async (before: number, work: () => Promise<void>): Promise<Memory> => {
  await idle()
  let most = 0
  let young = 0
  const look = () => {
    const { rss } = process.memoryUsage()
    if (rss <= most) return
    most = rss
    young = youngGeneration()
  }
  look()
  const timer = setInterval(look, 10)
  await work()
  look()
  clearInterval(timer)
  return { over: mebibytes(most - before), young: mebibytes(young) }
}

const execution = (): Execution => ({ id: QueryId.make(), onDone: () => undefined, onGivenUp: () => undefined })

const counting = (pause: Effect.Effect<void> = Effect.void) => {
  const count = { rows: 0 }
  const sink: RowSink = {
    columns: () => Effect.void,
    rows: (some) =>
      Effect.suspend(() => {
        count.rows += some.length
        return pause
      })
  }
  return { count, sink }
}

const startServer = async () => {
  const program = Path.join(import.meta.dirname, "snowflakeProgram.ts")
  const partitionBytes = Math.ceil((rows * rowBytes) / partitions)
  const child = spawn(process.execPath, [program, String(partitionBytes)], { stdio: ["pipe", "pipe", "inherit"] })
  const [line] = await once(createInterface(child.stdout), "line")
  const { token, url } = JSON.parse(String(line)) as { readonly token: string; readonly url: string }
  const stop = async () => {
    child.stdin.end()
    if (child.exitCode === null) await once(child, "exit")
  }
  return { url, token: Redacted.make(token), stop }
}

const measure = Effect.gen(function* () {
  const services = yield* Effect.context<QueryDriver | SnowflakeQueryDriver.SnowflakeStatements>()
  const driver = Context.get(services, QueryDriver)
  const statements = Context.get(services, SnowflakeQueryDriver.SnowflakeStatements)
  const run = (text: string, sink: RowSink) =>
    Effect.scoped(
      Effect.flatMap(driver.open, (connection) => connection.execute({ sql: text, params: [] }, sink, execution()))
    )
  const runPromise = Effect.runPromiseWith(services)
  const read = (sink: RowSink) => statements.attach(handle, sink, execution())
  yield* run("select 1", counting().sink)
  handle = ""
  const before = yield* Effect.promise(idle)
  const begun = performance.now()
  // Also warms up.
  yield* run(sql, counting().sink)
  console.log(`executed and read for the first time in ${((performance.now() - begun) / 1000).toFixed(1)} s`)

  const [memory, speed]: [Array<Memory>, Array<number>] = [[], []]
  for (const _ of [0, 1]) {
    const { count, sink } = counting()
    const from = performance.now()
    memory.push(yield* Effect.promise(() => watched(before, () => runPromise(Effect.asVoid(Effect.orDie(read(sink)))))))
    speed.push(count.rows / ((performance.now() - from) / 1000))
    if (count.rows !== rows) throw new Error(`${count.rows} rows`)
  }

  const slow = counting(Effect.sleep("5 millis"))
  const latencies: Array<number> = []
  const slowMemory = yield* Effect.promise(() =>
    watched(before, () =>
      runPromise(
        Effect.gen(function* () {
          const fiber = yield* Effect.forkChild(Effect.orDie(read(slow.sink)))
          for (let times = 0; times < 200; times++) {
            const from = performance.now()
            yield* Effect.orDie(run("select 1", counting().sink))
            latencies.push(performance.now() - from)
          }
          yield* Fiber.interrupt(fiber)
        })
      )
    )
  )
  console.table([
    {
      reader: "at once",
      rows: rows.toLocaleString("en"),
      "MiB over idle": range(
        memory.map(({ over }) => over),
        0
      ),
      "of it young generation": range(
        memory.map(({ young }) => young),
        0
      ),
      "rows/s": range(speed, 0)
    },
    {
      reader: "slow, 200 others beside it",
      rows: slow.count.rows.toLocaleString("en"),
      "MiB over idle": slowMemory.over.toFixed(0),
      "of it young generation": slowMemory.young.toFixed(0),
      "others ms p50 / p99": `${quantile(latencies, 0.5).toFixed(1)} / ${quantile(latencies, 0.99).toFixed(1)}`
    }
  ])
})

/** Of the statement whose rows are read. */
let handle = ""

export const run = async () => {
  if (globalThis.gc === undefined) console.log("Garbage counts: NODE_OPTIONS=--expose-gc is not set")
  const { stop, token, url } = await startServer()
  const layer = SnowflakeQueryDriver.layer({
    url,
    token: { type: "PROGRAMMATIC_ACCESS_TOKEN", token },
    callTimeout: "1 minute",
    onSubmitted: (_, submitted) =>
      Effect.sync(() => {
        handle ||= submitted
      })
  })
  try {
    await Effect.runPromise(Effect.provide(measure, layer))
  } finally {
    await stop()
  }
}
