/**
 * `npm run compat`, or `npm run compat -- postgres-14 redis-7` for some of the targets: the project's tests, the law of values and a
 * walk of the service against servers in many versions, fetched and started for it. `--quick` leaves the project's tests out.
 *
 * One line for each target, and the failures below it. The exit code is 1 when something failed.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as PostgresTargets from "./postgresTargets.ts"
import * as RedisTargets from "./redisTargets.ts"
import * as Suites from "./suites.ts"
import type { Target } from "./target.ts"
import { values } from "./values.ts"
import { refused, walk } from "./walk.ts"

/** `--quick`: the walk and the values only. */
const isQuick = process.argv.includes("--quick")
const wanted = process.argv.slice(2).filter((name) => name !== "--quick")
const all = [...PostgresTargets.targets, ...RedisTargets.targets]

/** What came of a part: its words, and whether it went well. */
interface Part {
  readonly text: string
  readonly failures: ReadonlyArray<string>
}

const part = <E, R>(name: string, run: Effect.Effect<string, E, R>): Effect.Effect<Part, never, R> =>
  Effect.map(Effect.exit(run), (exit) =>
    Exit.isSuccess(exit)
      ? { text: `${name} ${exit.value}`, failures: [] }
      : { text: `${name} FAILED`, failures: [`${name}: ${Cause.pretty(exit.cause)}`] }
  )

const suites = (options: Suites.Options): Effect.Effect<Part> =>
  Suites.run(options).pipe(
    Effect.map(({ failures, leftOut, passed, second }) => ({
      text:
        `${options.files.length} test files: ${passed} passed${second === 0 ? "" : ` (${second} of them at a second try)`}, ` +
        `${failures.length} failed, ${leftOut} left out`,
      failures: failures.map(({ file, test, text }) => `${file}: ${test}\n${text}`)
    })),
    Effect.catch(({ message }) => Effect.succeed({ text: "tests FAILED", failures: [message] }))
  )

const attempt = Effect.fnUntraced(function* ({ name, start }: Target) {
  const began = performance.now()
  const exit = yield* Effect.exit(
    Effect.gen(function* () {
      const running = yield* start
      const { refusal, service: env, witness } = running
      const parts = [
        refusal === undefined
          ? yield* part("walk", Effect.as(walk({ env, witness }), "ok"))
          : yield* part("refused for sessions:", Effect.as(refused({ env }, refusal), refusal))
      ]
      if (running.values !== undefined) parts.push(yield* part("values", values(running.values)))
      if (!isQuick && running.suites.files.length > 0) {
        parts.push(yield* suites({ ...running.suites, leftOut: running.leftOut }))
      }
      if (running.after !== undefined) parts.push(yield* part("then", running.after))
      return { version: running.version, parts, leftOut: running.leftOut }
    }).pipe(Effect.scoped)
  )
  const seconds = `${Math.round((performance.now() - began) / 1000)} s`
  if (Exit.isFailure(exit)) {
    console.log(`${name} | not started | ${seconds}\n  ${Cause.pretty(exit.cause).replaceAll("\n", "\n  ")}`)
    return false
  }
  const { leftOut, parts, version } = exit.value
  console.log([name, version, ...parts.map(({ text }) => text), seconds].join(" | "))
  for (const { test, why } of leftOut) console.log(`  left out: "${test}": ${why}`)
  const failures = parts.flatMap(({ failures }) => failures)
  for (const failure of failures) console.log(`  ${failure.replaceAll("\n", "\n  ")}`)
  return failures.length === 0
})

const unknown = wanted.filter((name) => !all.some((target) => target.name === name))
if (unknown.length > 0) {
  console.error(`There is no target ${unknown.join(", ")}. The targets are ${all.map(({ name }) => name).join(", ")}`)
  process.exit(1)
}
const chosen = all.filter(({ name }) => wanted.length === 0 || wanted.includes(name))
const results = await Effect.runPromise(Effect.forEach(chosen, attempt))
process.exitCode = results.every(Boolean) ? 0 : 1
