/**
 * The project's own tests against a given server.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { globSync, promises as Fs, readFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { attempt } from "./programs.ts"

const root = Path.join(import.meta.dirname, "../..")

const importsOf = (file: string) =>
  Array.from(readFileSync(file, "utf8").matchAll(/^(?:import|export)\b[^"]*?from "(\.[^"]+)"/gm), ([, to = ""]) =>
    Path.join(Path.dirname(file), to)
  )

/** Waits for conditions are everywhere, and most of them are not about a database. */
const anywhere = Path.join("test", "support", "conditions.ts")

/** About silent networks, memory, many processes and texts: they take long, and say nothing about the version of a server. */
const aside = /Silence|Outages|Memory|Processes\.|Text\.|Model|Audit|BareDriver/

/**
 * The test files under these directories that talk to a server: their imports lead to that file of `test/support`. Those that say
 * nothing about the version of a server are left out.
 */
export const thatUse = (support: string, patterns: ReadonlyArray<string>): ReadonlyArray<string> => {
  const target = Path.join("test", "support", support)
  const known = new Map<string, boolean>()
  const leads = (file: string): boolean => {
    if (file === target) return true
    if (file === anywhere) return false
    const answer = known.get(file)
    if (answer !== undefined) return answer
    known.set(file, false)
    const found = importsOf(file).some(leads)
    known.set(file, found)
    return found
  }
  return globSync([...patterns], { cwd: root })
    .filter((file) => !aside.test(file) && leads(file))
    .toSorted()
}

const Report = Schema.fromJsonString(
  Schema.Struct({
    numPassedTests: Schema.Int,
    numPendingTests: Schema.Int,
    testResults: Schema.Array(
      Schema.Struct({
        name: Schema.String,
        status: Schema.String,
        message: Schema.optionalKey(Schema.String),
        assertionResults: Schema.Array(
          Schema.Struct({
            fullName: Schema.String,
            status: Schema.String,
            failureMessages: Schema.Array(Schema.String)
          })
        )
      })
    )
  })
)

/** A test that does not apply to a target, by a part of its name, and why. */
export interface LeftOut {
  readonly test: string
  readonly why: string
}

export interface Failure {
  readonly file: string
  readonly test: string
  readonly text: string
}

export interface Outcome {
  readonly passed: number
  readonly leftOut: number
  readonly failures: ReadonlyArray<Failure>
}

export interface Options {
  readonly files: ReadonlyArray<string>
  readonly env: Readonly<Record<string, string>>
  readonly leftOut: ReadonlyArray<LeftOut>
}

const limit = 15 * 60_000

/** Runs test files in a process of their own, for a quarter of an hour at most. */
const runOnce = ({ env, files, leftOut, workers }: Options & { readonly workers: number }) =>
  attempt("vitest", async (): Promise<Outcome> => {
    const directory = await Fs.mkdtemp(Path.join(tmpdir(), "holdfast-compat-report-"))
    const report = Path.join(directory, "report.json")
    const others = leftOut.map(({ test }) => test.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")
    const args = [
      Path.join(root, "node_modules/vitest/vitest.mjs"),
      "run",
      ...files,
      `--maxWorkers=${workers}`,
      "--reporter=json",
      `--outputFile=${report}`,
      ...(leftOut.length === 0 ? [] : ["-t", `^(?!.*(?:${others}))`])
    ]
    try {
      const child = spawn(process.execPath, args, {
        cwd: root,
        env: { ...process.env, ...env },
        stdio: ["ignore", "ignore", "pipe"]
      })
      const timer = setTimeout(() => child.kill("SIGTERM"), limit)
      let said = ""
      child.stderr.setEncoding("utf8").on("data", (text: string) => (said = (said + text).slice(-4000)))
      await once(child, "close")
      clearTimeout(timer)
      const text = await Fs.readFile(report, "utf8").catch(() => Promise.reject(new Error(said)))
      const { numPassedTests, numPendingTests, testResults } = Schema.decodeUnknownSync(Report)(text)
      const failures = testResults.flatMap(({ assertionResults, message, name, status }) => {
        const failed = assertionResults.filter((one) => one.status === "failed")
        const file = Path.relative(root, name)
        if (status === "failed" && failed.length === 0)
          return [{ file, test: "the file", text: message ?? "did not run" }]
        return failed.map(({ failureMessages, fullName }) => ({
          file,
          test: fullName,
          text: failureMessages.join("\n")
        }))
      })
      return { passed: numPassedTests, leftOut: numPendingTests, failures }
    } finally {
      await Fs.rm(directory, { recursive: true, force: true })
    }
  })

/**
 * Runs test files. The files with failures are run once more, one after the other: a test with a time limit may fail on a busy
 * machine. What fails both times has failed.
 */
export const run = Effect.fnUntraced(function* (options: Options) {
  const first = yield* runOnce({ ...options, workers: 2 })
  if (first.failures.length === 0) return { ...first, second: 0 }
  const files = [...new Set(first.failures.map(({ file }) => file))]
  const again = yield* runOnce({ ...options, files, workers: 1 })
  const failures = first.failures.filter((one) =>
    again.failures.some(({ file, test }) => file === one.file && test === one.test)
  )
  const second = first.failures.length - failures.length
  return { passed: first.passed + second, leftOut: first.leftOut, failures, second }
})
