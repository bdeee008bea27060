/**
 * What a query occupies on the heap of this process, without a server: one that waits, and one that is over and kept, without
 * rows. Start with `NODE_OPTIONS=--expose-gc`, so that only what is reachable counts.
 */
import * as Effect from "effect/Effect"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import * as ScriptedQueryDriver from "../../src/testing/ScriptedQueryDriver.ts"
import { range } from "./measure.ts"

const count = 10_000

const heap = async () => {
  for (let times = 0; times < 4; times++) {
    globalThis.gc?.()
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return process.memoryUsage().heapUsed
}

/** Bytes per query, those before the first thousand not counted. */
const perQuery = (execute: ScriptedQueryDriver.Script["execute"], isAwaited: boolean) =>
  Effect.gen(function* () {
    const { driver } = ScriptedQueryDriver.make({ execute })
    const registry = yield* QueryRegistry.make({
      maxRunning: 1,
      maxWaiting: 2 * count,
      maxWaitingPerPrincipal: 2 * count,
      drain: 0
    }).pipe(Effect.provide([ScriptedQueryDriver.layer(driver), QueryResults.layerMemory()]))
    const submit = (index: number) => {
      const principal = `principal ${index % 10}`
      const submitted = registry.submit({ statement: { sql: `select ${index}`, params: [] }, principal })
      return isAwaited ? Effect.flatMap(submitted, ({ id }) => registry.await(principal, id)) : submitted
    }
    for (let index = 0; index < 1000; index++) yield* submit(index)
    const before = yield* Effect.promise(heap)
    for (let index = 0; index < count; index++) yield* submit(index)
    return ((yield* Effect.promise(heap)) - before) / count
  }).pipe(Effect.scoped)

export const run = async () => {
  const rounds = [0, 1, 2]
  const [waiting, over]: [Array<number>, Array<number>] = [[], []]
  for (const _ of rounds) {
    waiting.push(await Effect.runPromise(perQuery(() => Effect.never, false)))
    over.push(await Effect.runPromise(perQuery(undefined, true)))
  }
  if (globalThis.gc === undefined) console.log("Garbage counts: NODE_OPTIONS=--expose-gc is not set")
  console.table([
    { query: "waiting", bytes: range(waiting, 0) },
    { query: "over", bytes: range(over, 0) }
  ])
}
