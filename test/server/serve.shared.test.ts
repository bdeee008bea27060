import { assert, layer } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { type Browser, login, make as makeBrowser, page, queryOf, submit, submittedId } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import { enginesOf } from "../support/engines.ts"
import * as RoundRobin from "../support/roundRobin.ts"
import * as Service from "../support/service.ts"
import { serverOf } from "../support/snowflake.ts"
import type { SnowflakeServer } from "../../src/testing/SnowflakeServer.ts"
import * as SkewedClock from "../../src/testing/SkewedClock.ts"
import { zone } from "./twoProcessesLaws.ts"

interface Instance extends Service.Program {
  readonly url: string
}

/** Three processes on one database, one of them an hour ahead, behind a proxy that takes turns. */
class Three extends Context.Service<
  Three,
  {
    readonly service: Service.Service
    /** The engine `far` of all of them. */
    readonly snowflake: SnowflakeServer["Service"]
    readonly others: readonly [Instance, Instance]
    /** One more for the scope, to be killed, paused or ended. The proxy does not know it. */
    readonly another: (env?: Service.Environment) => Effect.Effect<Instance, never, Scope.Scope>
    /** Whose requests go to each in turn. */
    readonly browser: Browser
    /** The same user at one instance. */
    readonly at: (instance: { readonly url: string }) => Browser
    /** Asks the users' database. */
    readonly ask: (sql: string) => Effect.Effect<ReadonlyArray<ReadonlyArray<unknown>>, unknown>
  }
>()("test/Three") {}

const ahead = { TZ: "America/New_York", ...SkewedClock.environment("1 hour") }

const three = Effect.gen(function* () {
  const { server: snowflake } = yield* serverOf()
  const service = yield* Service.startService({
    env: {
      ...zone,
      HOLDFAST_MAX_QUERIES: "4",
      HOLDFAST_MAX_QUERIES_PER_USER: "3",
      HOLDFAST_ENGINES: `far=snowflake://${new URL(snowflake.url).host}/TEST/PUBLIC?protocol=http`,
      HOLDFAST_SNOWFLAKE_TOKEN: Redacted.value(snowflake.token),
      HOLDFAST_SNOWFLAKE_TOKEN_TYPE: "PROGRAMMATIC_ACCESS_TOKEN"
    }
  })
  const proxy = yield* RoundRobin.make([service.url])
  const another = Effect.fnUntraced(function* (more: Service.Environment = {}) {
    const program = yield* Service.launch({ args: ["serve"], env: { ...service.env, ...more } })
    const url = yield* Service.listening(program)
    yield* Service.ready(url)
    return { ...program, url }
  })
  const others = yield* Effect.all([another(ahead), another()], { concurrency: "unbounded" })
  for (const { url } of others) proxy.targets.push(url)
  const browser = yield* login(makeBrowser(proxy.url), { username: "demo", password: Service.demoPassword })
  const at = ({ url }: { readonly url: string }) => {
    const copy = makeBrowser(url)
    for (const [name, value] of browser.cookies) copy.cookies.set(name, value)
    return copy
  }
  const ask = (sql: string) =>
    Effect.scoped(Effect.flatMap(PgConnection.make({ url: service.queries.url }), (it) => it.queryValues(sql)))
  yield* ask("create table effects (of text, at timestamptz default clock_timestamp())")
  return Three.of({ service, snowflake, others, another, browser, at, ask })
})

const Holdings = Schema.Struct({
  holdings: Schema.Array(
    Schema.Struct({
      kind: Schema.String,
      id: Schema.String,
      state: Schema.String,
      attributes: Schema.Record(Schema.String, Schema.Unknown),
      holdings: Schema.Array(Schema.Unknown)
    })
  )
})

const over = new Set(["Succeeded", "Failed", "Canceled"])

const status = (browser: Browser, id: string) => Effect.map(browser.send("GET", `/queries/${id}`), queryOf)

const settled = (browser: Browser, id: string) =>
  eventually(status(browser, id), ({ state }) => over.has(state), "20 seconds")

/** How many statements of users run on Snowflake: whether it is there is asked by a statement, too. */
const farRuns = ({ statements }: SnowflakeServer["Service"]) =>
  Effect.map(
    statements,
    (all) => all.filter(({ sql, state }) => sql.includes("pg_sleep") && state === "running").length
  )

const runs = (browser: Browser, id: string) => eventually(status(browser, id), ({ state }) => state === "Running")

layer(Layer.effect(Three, three), { excludeTestServices: true, timeout: "60 seconds" })(
  "three instances behind a proxy without sticky sessions",
  (it) => {
    it.effect("K1 any of them answers for any query, with the same answer, and ends it", () =>
      Effect.gen(function* () {
        const { browser } = yield* Three
        const id = yield* submit(browser, "select n, repeat('x', 100) from generate_series(1, 3000) as n")
        yield* settled(browser, id)
        const answers = yield* Effect.forEach([1, 2, 3], () => browser.send("GET", `/queries/${id}`))
        assert.lengthOf(new Set(answers.map(({ text }) => text)), 1)
        const pages = yield* Effect.forEach([1, 2, 3], () => page(browser, id, "?limit=2000"))
        for (const { next, rows } of pages) {
          assert.lengthOf(rows, 2000)
          assert.isNotNull(next)
        }
        const lists = yield* Effect.forEach([1, 2, 3], () => browser.send("GET", "/queries"))
        assert.lengthOf(new Set(lists.map(({ text }) => text)), 1)
        const sleeping = yield* submit(browser, "select pg_sleep(600)")
        const events = yield* Effect.forkChild(browser.send("GET", `/queries/${sleeping}/events`))
        yield* runs(browser, sleeping)
        const canceled = yield* browser.send("DELETE", `/queries/${sleeping}`)
        assert.strictEqual(queryOf(canceled).state, "Canceled")
        const told = (yield* Fiber.join(events)).text.match(/"state":"(\w+)","engine"/g) ?? []
        assert.include(told.at(-1) ?? "", "Canceled")
      })
    )

    it.effect("K4 an idempotency key starts one query over all of them", () =>
      Effect.gen(function* () {
        const { ask, browser } = yield* Three
        const post = browser.send("POST", "/queries", {
          json: { sql: "insert into effects values ('key')" },
          headers: { "idempotency-key": "k" }
        })
        const answers = yield* Effect.all(
          Array.from({ length: 12 }, () => post),
          { concurrency: "unbounded" }
        )
        const ids = new Set(answers.map(submittedId))
        assert.lengthOf(ids, 1)
        for (const id of ids) yield* settled(browser, id)
        assert.deepStrictEqual(yield* ask("select count(*)::int from effects where of = 'key'"), [[1]])
      })
    )

    it.effect("GET /holdings?instances=all shows what each of them holds, and a query ends from any of them", () =>
      Effect.gen(function* () {
        const { at, browser, others, service } = yield* Three
        const [first, second] = others
        const id = yield* submit(at(first), "select pg_sleep(603)")
        yield* runs(browser, id)
        const holdings = Effect.map(
          browser.send("GET", "/holdings?instances=all&limit=3000"),
          ({ json, status, text }) => {
            assert.strictEqual(status, 200, text)
            return Schema.decodeUnknownSync(Holdings)(json).holdings
          }
        )
        const roots = yield* holdings
        assert.deepStrictEqual(
          roots.map(({ attributes, kind, state }) => [kind, state, attributes["answered"]]),
          Array.from({ length: 3 }, () => ["instance", "held", true])
        )
        const ofFirst = roots.find(({ id }) => id.endsWith(`:${first.pid}`))
        assert.include(JSON.stringify(ofFirst), id)
        assert.lengthOf(
          roots.filter((root) => JSON.stringify(root).includes(id)),
          1
        )
        assert.strictEqual((yield* at(second).send("DELETE", `/holdings/query/${id}`)).status, 204)
        assert.strictEqual((yield* status(at(service), id)).state, "Canceled")
        assert.notInclude(JSON.stringify(yield* holdings), id)
        const nobodys = yield* browser.send("DELETE", "/holdings/query/q_00000000-0000-4000-8000-000000000000")
        assert.strictEqual(nobodys.status, 404)
      })
    )

    it.effect("K3 the queries of one that was killed have their outcome within the bound, and no backend left", () =>
      Effect.gen(function* () {
        const { another, ask, at, browser, service, snowflake } = yield* Three
        const victim = yield* another()
        const own = at(victim)
        const plain = yield* submit(own, "select pg_sleep(601)")
        const again = yield* submit(own, "insert into effects select 'again' from pg_sleep(4)", { rerun: true })
        yield* runs(own, again)
        const third = yield* submit(own, "select pg_sleep(602)")
        const waiting = yield* submit(own, "insert into effects values ('waited')")
        const far = yield* submit(own, "select pg_sleep(604)", { engine: "far" })
        for (const id of [plain, third, far]) yield* runs(own, id)
        yield* eventually(farRuns(snowflake), (count) => count === 1)
        assert.deepStrictEqual(
          (yield* enginesOf(browser)).map(({ endsElsewhere, name }) => [name, endsElsewhere]),
          [
            ["default", true],
            ["far", true]
          ]
        )
        const before = performance.now()
        yield* victim.signal("SIGKILL")
        yield* victim.exited
        const failed = yield* settled(browser, plain)
        const took = performance.now() - before
        assert.deepInclude(failed, { state: "Failed" })
        assert.deepInclude(failed.error, { code: "QueriesUnavailable", written: "unknown" })
        assert.deepStrictEqual((yield* settled(browser, third)).error?.written, "unknown")
        const gone = yield* settled(browser, far)
        assert.strictEqual(yield* farRuns(snowflake), 0)
        assert.deepInclude(gone.error, { code: "QueriesUnavailable", written: "unknown" })
        assert.strictEqual((yield* settled(browser, again)).state, "Succeeded")
        assert.strictEqual((yield* settled(browser, waiting)).state, "Succeeded")
        assert.deepStrictEqual(yield* ask("select count(*)::int from effects where of = 'waited'"), [[1]])
        assert.deepStrictEqual(
          (yield* Service.statements(service.queries.name)).filter((sql) => sql.includes("pg_sleep(60")),
          []
        )
        // Four seconds on a machine that has time.
        assert.isBelow(took, 12_000)
      })
    )

    it.effect(
      "K2 one that stands still longer than its lease changes nothing when it goes on, and is of use again",
      () =>
        Effect.gen(function* () {
          const { another, ask, at, browser } = yield* Three
          const paused = yield* another(ahead)
          const own = at(paused)
          const running = yield* submit(own, "insert into effects select 'paused' from pg_sleep(9)")
          yield* runs(own, running)
          yield* paused.signal("SIGSTOP")
          const failed = yield* settled(browser, running)
          assert.deepInclude(failed.error, { code: "QueriesUnavailable", written: "unknown" })
          yield* paused.signal("SIGCONT")
          yield* eventually(own.send("GET", "/health/ready"), ({ status }) => status === 200)
          assert.deepStrictEqual(yield* status(own, running), failed)
          const next = yield* submit(own, "select 1")
          assert.strictEqual((yield* settled(browser, next)).state, "Succeeded")
          assert.deepStrictEqual(yield* status(browser, running), failed)
          assert.deepStrictEqual(yield* ask("select count(*)::int from effects where of = 'paused'"), [[0]])
        })
    )

    it.effect("K5 a rolling restart loses no record, no row and no query, and runs none twice", () =>
      Effect.gen(function* () {
        const { another, ask, at, browser } = yield* Three
        const leaving = yield* another(ahead)
        const own = at(leaving)
        const kept = yield* submit(own, "select generate_series(1, 5000)")
        yield* settled(own, kept)
        const ids = yield* Effect.forEach(
          Array.from({ length: 8 }, (_, at) => at),
          (at) => submit(own, `insert into effects select 'roll ${at}' from pg_sleep(${at < 3 ? 3 : 0.1})`)
        )
        yield* leaving.signal("SIGTERM")
        assert.strictEqual((yield* leaving.exited).code, 0)
        for (const id of ids) assert.strictEqual((yield* settled(browser, id)).state, "Succeeded")
        const counted = yield* ask("select of, count(*)::int from effects where of like 'roll %' group by 1 order by 1")
        assert.deepStrictEqual(
          counted,
          ids.map((_, at) => [`roll ${at}`, 1])
        )
        assert.lengthOf((yield* page(browser, kept, "?limit=10000")).rows, 5000)
      })
    )
  }
)
