/**
 * Runs a file of tests by itself, in a process of its own: for suites that are measured, or that have to fail.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const checkout = Path.join(import.meta.dirname, "../..")

/** What Vitest's reporter `json` says, as far as it is read. */
const Report = Schema.fromJsonString(
  Schema.Struct({
    numPassedTests: Schema.Int,
    numFailedTests: Schema.Int,
    testResults: Schema.Array(
      Schema.Struct({
        assertionResults: Schema.Array(
          Schema.Struct({ title: Schema.String, status: Schema.String, failureMessages: Schema.Array(Schema.String) })
        ),
        message: Schema.String
      })
    )
  })
)

/** A suite that was run. */
export interface Ran {
  readonly passed: number
  readonly failed: number
  /** What a test failed with, by its name. */
  readonly failures: ReadonlyMap<string, string>
  /** What the runner said of the file itself. */
  readonly output: string
  readonly millis: number
}

/** Runs the file, whose path is relative to the checkout. */
export const run = (file: string, env: Readonly<Record<string, string>> = {}) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const config = Path.join(import.meta.dirname, "suites/vitest.config.ts")
      const program = Path.join(checkout, "node_modules/vitest/vitest.mjs")
      const directory = mkdtempSync(Path.join(tmpdir(), "holdfast-suite-"))
      const output = Path.join(directory, "report.json")
      const args = [program, "run", "--config", config, "--reporter", "json", "--outputFile", output]
      const child = spawn(process.execPath, args, {
        cwd: checkout,
        env: { PATH: process.env["PATH"], HOME: process.env["HOME"], HOLDFAST_SUITE: file, ...env },
        stdio: ["ignore", "pipe", "pipe"]
      })
      return { child, directory, output }
    }),
    ({ child, output }) =>
      Effect.promise(async (): Promise<Ran> => {
        const began = performance.now()
        let [said, wrong] = ["", ""]
        child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text))
        child.stderr.setEncoding("utf8").on("data", (text: string) => (wrong += text))
        await once(child, "close")
        if (!existsSync(output)) throw new Error(`The suite ${file} did not run:\n${said}${wrong}`)
        const report = readFileSync(output, "utf8")
        const { numFailedTests, numPassedTests, testResults } = Schema.decodeUnknownSync(Report)(report)
        const failures = testResults.flatMap(({ assertionResults }) =>
          assertionResults
            .filter(({ status }) => status === "failed")
            .map(({ failureMessages, title }) => [title, failureMessages.join("\n")] as const)
        )
        return {
          passed: numPassedTests,
          failed: numFailedTests,
          failures: new Map(failures),
          output: testResults.map(({ message }) => message).join("\n"),
          millis: performance.now() - began
        }
      }),
    ({ child, directory }) =>
      Effect.sync(() => {
        child.kill("SIGKILL")
        rmSync(directory, { recursive: true, force: true })
      })
  )
