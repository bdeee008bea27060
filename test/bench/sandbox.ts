/**
 * What sandboxes cost a file of tests: 200 tests, each of which writes and reads a row in a sandbox of its own, beside 200 empty
 * ones. A real PostgreSQL on the loopback address, nothing synced to disk.
 *
 * What is measured is the whole run of the file in a process of its own, in turns, so that the difference is what the sandboxes
 * add: a connection, a transaction, a listening port and an ordinary client each. The goal is less than 2 seconds for 200.
 *
 * Not measured: migrations, which are run once for a file, and the clone of `layerTemplate`.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as Suite from "../support/suite.ts"
import { range, takeTurns } from "./measure.ts"

const tests = 200
const rounds = 5

export const run = () =>
  Effect.gen(function* () {
    const server = yield* TestPostgres.make()
    const connection = yield* PgConnection.make({ url: server.superuserUrl })
    yield* connection.query("create table fruit (name text)")
    const contender = (env: Readonly<Record<string, string>>) => () =>
      Effect.runPromise(
        Effect.map(
          Suite.run("test/bench/sandboxSuite.ts", { ...env, HOLDFAST_SUITE_TESTS: String(tests) }),
          ({ failures, millis, passed }) => {
            if (passed !== tests) throw new Error(Array.from(failures.values()).join("\n"))
            return millis
          }
        )
      )
    const results = yield* Effect.promise(() =>
      takeTurns(
        {
          empty: contender({}),
          sandboxed: contender({ HOLDFAST_SUITE_URL: Redacted.value(server.superuserUrl) })
        },
        rounds
      )
    )
    const [empty = [], sandboxed = []] = [results.get("empty"), results.get("sandboxed")]
    console.table([
      { tests, contender: "empty", ms: range(empty, 0) },
      { tests, contender: "sandboxed", ms: range(sandboxed, 0) },
      {
        tests,
        contender: "difference",
        ms: range(
          sandboxed.map((millis, round) => millis - (empty[round] ?? 0)),
          0
        )
      }
    ])
  }).pipe(Effect.scoped, Effect.runPromise)
