/**
 * An open loop, in a process of its own: requests are sent at a fixed rate, whether the ones before are answered or not, and a
 * latency begins when a request was due. What is wrong in an answer is counted.
 *
 * It is run with the path of a file of JSON, see `Task`, and writes what it saw to its standard output.
 */
import { readFileSync } from "node:fs"
import { setTimeout } from "node:timers/promises"
import { quantile } from "../measure.ts"
import * as Client from "./client.ts"
import type { Call } from "./load.ts"

export interface Task {
  readonly port: number
  readonly calls: ReadonlyArray<Call>
  /** What the answers to the calls contain. */
  readonly expected: ReadonlyArray<string>
  /** Requests a second. */
  readonly rate: number
  readonly seconds: number
}

export interface Seen {
  readonly p50: number
  readonly p99: number
  readonly requests: number
  readonly refused: number
  readonly wrongPrincipal: number
}

if (import.meta.main) {
  const { calls, expected, port, rate, seconds } = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as Task
  const { close, send } = Client.make(port)
  const latencies: Array<number> = []
  let [refused, wrongPrincipal] = [0, 0]
  const one = async (index: number, due: number) => {
    const { status, text } = await send(calls[index % calls.length] as Call)
    latencies.push(performance.now() - due)
    if (status !== 200) refused++
    else if (!text.includes(expected[index % calls.length] ?? "")) wrongPrincipal++
  }
  const begun = performance.now()
  const all: Array<Promise<void>> = []
  for (let index = 0; index < rate * seconds; index++) {
    const due = begun + (index * 1000) / rate
    const early = due - performance.now()
    if (early > 1) await setTimeout(early)
    all.push(one(index, due))
  }
  await Promise.all(all)
  close()
  const seen: Seen = {
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    requests: latencies.length,
    refused,
    wrongPrincipal
  }
  process.stdout.write(`${JSON.stringify(seen)}\n`)
}
