/**
 * A short walk of `holdfast serve` on a given database: log in, run a statement, read its rows, cancel one, log out while one runs.
 */
import { assert } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as PgTarget from "../../src/postgres/internal/PgTarget.ts"
import * as Browser from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as Service from "../support/service.ts"

export interface Options {
  /** Where the service runs its own tables and users' SQL, and whatever else it is told. */
  readonly env: Service.Environment
  /** A superuser who looks at the server from beside. */
  readonly witness: Redacted.Redacted<string>
}

const start = Effect.fnUntraced(function* (env: Service.Environment) {
  const all = { PORT: "0", HOLDFAST_DEMO_PASSWORD: Service.demoPassword, ...env }
  const service = yield* Service.launch({ args: ["serve"], env: all })
  return { ...service, url: yield* Service.listening(service) }
})

/** The service is not ready on a server that it refuses, and its log says why. */
export const refused = Effect.fnUntraced(function* ({ env }: Pick<Options, "env">, sentence: string) {
  const service = yield* start(env)
  yield* eventually(
    Effect.sync(() => service.stdout() + service.stderr()),
    (said) => said.includes(sentence),
    "15 seconds"
  )
  assert.strictEqual((yield* Browser.make(service.url).send("GET", "/health/ready")).status, 503)
}, Effect.scoped)

/** Fails with the step that went wrong. */
export const walk = Effect.fnUntraced(function* ({ env, witness }: Options) {
  const connection = yield* PgConnection.make(PgTarget.of(witness).config)
  const sleeping = Effect.map(
    connection.query(
      "select pid from pg_stat_activity where query like 'select pg_sleep(%' and state <> 'idle' and backend_type = 'client backend'"
    ),
    ({ rows }) => rows.length
  )
  const service = yield* start(env)
  const { url } = service
  const ready = eventually(Browser.make(url).send("GET", "/health/ready"), ({ status }) => status === 200, "15 seconds")
  yield* Effect.catchDefect(ready, (defect) =>
    Effect.die(new Error(`never ready: ${String(defect)}\n${service.stdout()}${service.stderr()}`))
  )
  const login = Browser.login(Browser.make(url), { username: "demo", password: Service.demoPassword })

  const browser = yield* login
  const rows = yield* Browser.rowsOf(browser, "select n, n * $1::int8 from generate_series(1, 3) n", { params: [7] })
  assert.deepStrictEqual(rows, [
    [1, "7"],
    [2, "14"],
    [3, "21"]
  ])

  const id = yield* Browser.submit(browser, "select pg_sleep(60)")
  yield* eventually(sleeping, (count) => count === 1)
  const canceled = Browser.queryOf(yield* browser.send("DELETE", `/queries/${id}`))
  assert.strictEqual(canceled.state, "Canceled")
  assert.strictEqual(yield* sleeping, 0, "a cancelled statement still runs")

  yield* Browser.submit(browser, "select pg_sleep(61)")
  yield* eventually(sleeping, (count) => count === 1)
  assert.strictEqual((yield* browser.send("POST", "/logout")).status, 204)
  assert.strictEqual(yield* sleeping, 0, "a statement outlives its session")
  assert.strictEqual((yield* browser.send("GET", "/session")).status, 401)

  yield* service.signal("SIGTERM")
  const { code } = yield* Effect.timeout(service.exited, "20 seconds")
  assert.strictEqual(code, 0, service.stdout() + service.stderr())
}, Effect.scoped)
