/**
 * Plays seeds of the simulation until time is up, on every core. `npm run simulate -- --seeds 1000000 --minutes 60` looks for laws
 * that break, `--from 1000000` goes on where another run has ended, `--scenario sessions --seed 4711` plays one seed again.
 */
import { availableParallelism } from "node:os"
import { parseArgs } from "node:util"
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads"
import * as Simulation from "../../src/testing/Simulation.ts"

type Name = keyof typeof Simulation.scenarios

/** What a worker is to do. `next` has the next seed, counted from `from`, and how many seeds have broken a law. */
interface Work {
  readonly name: Name
  readonly from: number
  readonly seeds: number
  readonly within: number
  readonly most: number
  readonly next: BigInt64Array
}

/** Seeds are taken in pieces, so that workers end together and no seed is left out below the last. */
const piece = 100

const work = ({ from, most, name, next, seeds, within }: Work): number => {
  const ends = performance.now() + within
  let played = 0
  while (performance.now() < ends && Atomics.load(next, 1) < most) {
    const at = Number(Atomics.add(next, 0, BigInt(piece)))
    if (at >= seeds) break
    for (let taken = 0; taken < Math.min(piece, seeds - at);) {
      const found = Simulation.search(Simulation.scenarios[name], {
        from: from + at + taken,
        seeds: Math.min(piece, seeds - at) - taken
      })
      taken += found.seeds
      played += found.seeds
      if (found.broken.length > 0 && Number(Atomics.add(next, 1, 1n)) >= most) break
      for (const broken of found.broken) console.log(`${Simulation.report(broken)}\n`)
    }
  }
  return played
}

const onWorker = (given: Work) =>
  new Promise<number>((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: given })
    worker.once("message", resolve)
    worker.once("error", reject)
  })

const main = async () => {
  const { values } = parseArgs({
    options: {
      scenario: { type: "string" },
      seed: { type: "string" },
      seeds: { type: "string", default: "10000" },
      from: { type: "string", default: "0" },
      minutes: { type: "string", default: "10" },
      most: { type: "string", default: "3" },
      workers: { type: "string", default: String(availableParallelism()) }
    }
  })
  const names = Object.keys(Simulation.scenarios) as ReadonlyArray<Name>
  const chosen = names.filter((name) => values.scenario === undefined || values.scenario === name)
  if (chosen.length === 0) {
    console.error(`There is no scenario ${values.scenario}. Choose one of ${names.join(", ")}, or none for all.`)
    process.exit(1)
  }
  for (const name of chosen) {
    const next = new BigInt64Array(new SharedArrayBuffer(16))
    const given: Work = {
      name,
      from: Number(values.seed ?? values.from),
      seeds: values.seed === undefined ? Math.floor(Number(values.seeds) / chosen.length) : 1,
      within: (Number(values.minutes) * 60_000) / chosen.length,
      most: Number(values.most),
      next
    }
    const workers = values.seed === undefined ? Math.max(1, Number(values.workers)) : 1
    const began = performance.now()
    const played =
      workers === 1 ? [work(given)] : await Promise.all(Array.from({ length: workers }, () => onWorker(given)))
    const seeds = played.reduce((sum, count) => sum + count, 0)
    const rate = Math.round((seeds / (performance.now() - began)) * 1000)
    const broken = Math.min(Number(next[1]), given.most)
    console.log(`${name}: ${seeds} seeds, ${rate} a second, ${broken} broke a law`)
    if (broken > 0) process.exitCode = 1
  }
}

if (isMainThread) await main()
else parentPort?.postMessage(work(workerData as Work))
