/**
 * The inside of a worker thread that runs scripts: what all runtimes have in common. It lives as long as its thread.
 *
 * **Details**
 *
 * The thread has no environment, and a low priority where the system gives one to a thread: scripts that use all of the processor
 * leave the program its part of it. Its clock goes in steps, and tells no time zone.
 */
import * as Os from "node:os"
import { parentPort, workerData } from "node:worker_threads"
import type { Done, FromWorker, Given, Outcome, Reply, Request, ToWorker, Wrote } from "./SandboxProtocol.ts"

/** In milliseconds. A script measures nothing with it that is shorter. */
const clockStep = 100

/** The lowest priority that there is. */
const lowest = 19

/** What a line takes besides its text. */
const lineBytes = 16

/** What the worker was started with. */
export const given = workerData as Given

const flag = new Int32Array(given.flag)

/** Whether a request is to stop. */
export const isStopped = (id: number): boolean => Atomics.load(flag, 0) === id

const send = (message: FromWorker): void => parentPort?.postMessage(message)

/** What a script writes, up to its limit. */
export class Console {
  private readonly id: number
  private left: number

  constructor({ consoleBytes, id }: Request) {
    this.id = id
    this.left = consoleBytes
  }

  /** Whether nothing more is taken. */
  get isFull(): boolean {
    return this.left < 0
  }

  write(level: string, text: string): void {
    if (this.isFull) return
    const room = Math.max(this.left - lineBytes, 0)
    this.left -= lineBytes + Buffer.byteLength(text)
    const wrote = { type: "console", id: this.id } satisfies Wrote
    const kept = this.isFull ? cut(text, room) : text
    if (!this.isFull || kept !== "") send({ ...wrote, line: { level, text: kept } })
    if (this.isFull) send(wrote)
  }
}

/** As much of a text as so many bytes hold at least. */
const cut = (text: string, bytes: number): string => {
  const kept = text.slice(0, Math.floor(bytes / 3))
  return kept.isWellFormed() ? kept : kept.slice(0, -1)
}

/** Calls what the program gave the script. */
export const call = (id: number, call: number, name: string, args: string): void =>
  send({ type: "call", id, call, name, args })

/** What a runtime does with a request. */
export interface Runtime {
  readonly run: (request: Request) => Promise<Outcome>
  /** A call of the request that runs was answered. */
  readonly reply?: (reply: Reply) => void
  /** The request that runs is to stop, and may be waiting. */
  readonly stop?: (id: number) => void
  /** Whether the worker is not to be used again: its memory has grown, or something was left in it. */
  readonly isWorn: () => boolean
}

/** Takes requests, one at a time, until the thread is ended. */
export const serve = (runtime: Runtime): void => {
  const now = Date.now
  Date.now = () => Math.floor(now() / clockStep) * clockStep
  Object.assign(Object.getPrototypeOf(new Date()), { getTimezoneOffset: () => 0 })
  // For Linux, where it is the thread's; elsewhere it would be the process's.
  if (process.platform === "linux") Os.setPriority(0, Math.min(Os.getPriority(0) + given.niceness, lowest))
  const run = async (request: Request) => {
    const { id } = request
    let done: Pick<Done, "outcome" | "retire">
    try {
      const outcome = await runtime.run(request)
      done = { outcome, retire: outcome.type === "memory" || outcome.type === "broken" || runtime.isWorn() }
    } catch (error) {
      done = { outcome: { type: "broken", problem: String(error).slice(0, 200) }, retire: true }
    }
    send({ type: "done", id, ...done })
  }
  parentPort?.on("message", (message: ToWorker) => {
    if (message.type === "reply") runtime.reply?.(message)
    else if (message.type === "stop") runtime.stop?.(message.id)
    else void run(message)
  })
  send({ type: "ready" })
}
