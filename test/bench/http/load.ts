/**
 * Load from a process of its own: `wrk`, a closed loop that sends the next request of a connection when the last one is answered.
 *
 * It takes about 5 µs of processor time a request, a tenth of what a generator in Node takes: the server and its database have two
 * cores to share with it.
 */
import { execFile } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as DistributionProgram from "../../../src/testing/internal/DistributionProgram.ts"

/** A request as it is sent. */
export interface Call {
  readonly method: string
  readonly path: string
  readonly cookie?: string | undefined
  readonly json?: unknown
}

/** What the generator saw. */
export interface Seen {
  readonly requests: number
  readonly seconds: number
  /** Answers with another status than 2xx and 3xx. */
  readonly refused: number
  /** Requests without an answer. */
  readonly broken: number
  readonly p50: number
  readonly p99: number
}

/** A request in HTTP/1.1, with the headers of a browser that matter to a server. */
export const text = (port: number, { cookie, json, method, path }: Call) => {
  const body = json === undefined ? "" : JSON.stringify(json)
  const lines = [
    `${method} ${path} HTTP/1.1`,
    `Host: 127.0.0.1:${port}`,
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: application/json",
    ...(cookie === undefined ? [] : [`Cookie: ${cookie}`]),
    ...(method === "GET" ? [] : [`Origin: http://127.0.0.1:${port}`, `Content-Length: ${Buffer.byteLength(body)}`]),
    ...(json === undefined ? [] : ["Content-Type: application/json"])
  ]
  return `${lines.join("\r\n")}\r\n\r\n${body}`
}

const wrk = DistributionProgram.find({
  cache: "wrk",
  names: ["wrk"],
  packages: [{ name: "wrk", file: "wrk", argv0: "wrk" }],
  advice: "Install wrk (Debian: apt-get install wrk; macOS: brew install wrk) so that it is on PATH."
})

/** Finds the generator; what it returns loads a server with calls for some seconds. */
export const make = async () => {
  const program = await Effect.runPromise(wrk)
  const directory = mkdtempSync(join(tmpdir(), "holdfast-bench-"))
  const script = join(import.meta.dirname, "wrk.lua")
  const env = { ...process.env, ...(program.libraries !== undefined && { LD_LIBRARY_PATH: program.libraries }) }
  const run = (port: number, calls: ReadonlyArray<Call>, inFlight: number, seconds: number) =>
    new Promise<Seen>((resolve, reject) => {
      const file = join(directory, `${port}`)
      writeFileSync(file, calls.map((call) => text(port, call)).join("\0"))
      const args = ["-t", "1", "-c", `${inFlight}`, "-d", `${seconds}s`, "-s", script, `http://127.0.0.1:${port}`, file]
      execFile(program.path, args, { env, timeout: (seconds + 60) * 1000 }, (error, stdout, stderr) => {
        const told = /^JSON (.*)$/m.exec(stdout)?.[1]
        if (told === undefined) {
          reject(new Error(`wrk told nothing: ${stderr}${stdout}`, { cause: error }))
          return
        }
        const { broken, micros, p50, p99, refused, requests } = JSON.parse(told) as Record<string, number>
        const [r = 0, m = 0] = [requests, micros]
        const millis = (value = Number.NaN) => value / 1000
        resolve({
          requests: r,
          seconds: m / 1e6,
          refused: refused ?? 0,
          broken: broken ?? 0,
          p50: millis(p50),
          p99: millis(p99)
        })
      })
    })
  return { run, close: () => rmSync(directory, { recursive: true, force: true }) }
}
