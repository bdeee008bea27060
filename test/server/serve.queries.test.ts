import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import {
  type Answer,
  type Browser,
  problemOf,
  queriesOf,
  queryOf,
  run,
  settled,
  submit,
  submittedId
} from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as Service from "../support/service.ts"

/** Logs in a user of the test's own, so that what others do is neither seen nor counted. */
const userOf = (name: string) =>
  Effect.gen(function* () {
    const service = yield* Service.Shared
    yield* Service.addUser(service, name)
    return Effect.suspend(() => service.login(name))
  })

const post = (browser: Browser, key: string | undefined, json: unknown) =>
  browser.send("POST", "/queries", { json, headers: key === undefined ? {} : { "idempotency-key": key } })

const accepted = (answer: Answer) => {
  assert.strictEqual(answer.status, 202, answer.text)
  const location = answer.headers.get("location") ?? ""
  assert.strictEqual(location, `/queries/${submittedId(answer)}`)
  return location
}

const list = (browser: Browser, search = "") => Effect.map(browser.send("GET", `/queries${search}`), queriesOf)

/** The `rel="next"` of an answer, as a search. */
const nextOf = ({ headers }: Answer) => {
  const match = /^<\/queries(\?[^>]+)>; rel="next"$/.exec(headers.get("link") ?? "")
  assert.strictEqual(match === null, headers.get("link") === null, headers.get("link") ?? "")
  return match?.[1]
}

const Conflict = Schema.Struct({ id: Schema.String })

layer(Service.layerShared(), { excludeTestServices: true, timeout: "60 seconds" })("the query calls", (it) => {
  it.effect("Q3 twenty parallel submissions with one idempotency key are one query", () =>
    Effect.gen(function* () {
      const open = yield* userOf("parallel")
      const [one, other] = [yield* open, yield* open]
      yield* run(one, "create table ran_once (at timestamptz)")
      const json = { sql: "insert into ran_once values (now())", params: [], timeoutMs: 30_000 }
      const answers = yield* Effect.all(
        Array.from({ length: 20 }, (_, index) => post(index % 2 === 0 ? one : other, "k", json)),
        { concurrency: "unbounded" }
      )
      const [location, ...others] = new Set(answers.map(accepted))
      assert.deepStrictEqual(others, [])
      assert.strictEqual((yield* settled(one, location?.slice("/queries/".length) ?? "")).rowCount, 1)
      // Also when it is over.
      assert.strictEqual(accepted(yield* post(other, "k", json)), location)
      assert.deepStrictEqual(
        (yield* list(one)).map(({ sql }) => sql),
        [json.sql, "create table ran_once (at timestamptz)"]
      )
    })
  )

  it.effect("the same idempotency key with another statement, parameters or timeout is 409 and runs nothing", () =>
    Effect.gen(function* () {
      const browser = yield* yield* userOf("conflict")
      const json = { sql: "select $1::int", params: [1] }
      const location = accepted(yield* post(browser, "k", json))
      for (const another of [
        { sql: "select $1::int  ", params: [1] },
        { sql: "select $1::int", params: [2] },
        { sql: "select $1::int", params: ["1"] },
        { sql: "select $1::int", params: [1], timeoutMs: 1000 }
      ]) {
        const answer = yield* post(browser, "k", another)
        assert.deepStrictEqual([answer.status, problemOf(answer).code], [409, "IdempotencyConflict"])
        assert.strictEqual(`/queries/${Schema.decodeUnknownSync(Conflict)(answer.json).id}`, location)
      }
      assert.lengthOf(yield* list(browser), 1)
    })
  )

  it.effect("an idempotency key is its principal's, and outlives the session", () =>
    Effect.gen(function* () {
      const [openA, openB] = [yield* userOf("keys_a"), yield* userOf("keys_b")]
      const [a, b] = [yield* openA, yield* openB]
      const ofA = accepted(yield* post(a, "k", { sql: "select 1" }))
      assert.notStrictEqual(accepted(yield* post(b, "k", { sql: "select 2" })), ofA)
      assert.notStrictEqual(accepted(yield* post(a, "K", { sql: "select 1" })), ofA)
      assert.notStrictEqual(accepted(yield* post(a, undefined, { sql: "select 1" })), ofA)
      yield* settled(a, ofA.slice("/queries/".length))
      assert.strictEqual((yield* a.send("POST", "/logout")).status, 204)
      assert.strictEqual(accepted(yield* post(yield* openA, "k", { sql: "select 1" })), ofA)
    })
  )

  it.effect("an idempotency key is 1 to 255 visible ASCII characters; anything else is 400 and runs nothing", () =>
    Effect.gen(function* () {
      const browser = yield* yield* userOf("bad_keys")
      for (const key of ["", "a b", "a\tb", "ü", "k".repeat(256), "a, b"]) {
        const answer = yield* post(browser, key, { sql: "select 1" })
        assert.deepStrictEqual([answer.status, problemOf(answer).code], [400, "RequestInvalid"], JSON.stringify(key))
      }
      assert.deepStrictEqual(yield* list(browser), [])
      for (const key of ["k", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "k".repeat(255)]) {
        accepted(yield* post(browser, key, { sql: "select 1" }))
      }
    })
  )

  it.effect(
    "one query too many is 429 with Retry-After, and uses up no key; half the places are for others all the while",
    () =>
      Effect.gen(function* () {
        const open = yield* userOf("greedy")
        const browser = yield* open
        const sleep = { sql: "select pg_sleep(60)" }
        const answers = yield* Effect.all(
          Array.from({ length: 105 }, () => post(browser, undefined, sleep)),
          { concurrency: 10 }
        )
        for (const answer of answers) accepted(answer)
        const refused = yield* post(browser, "late", sleep)
        assert.deepStrictEqual([refused.status, problemOf(refused).code], [429, "QueryRejected"])
        assert.match(refused.headers.get("retry-after") ?? "", /^[1-9]\d?$/)
        yield* eventually(list(browser, "?state=Running&limit=1000"), ({ length }) => length >= 5)
        assert.lengthOf(yield* list(browser, "?state=Running&limit=1000"), 5)
        assert.lengthOf(yield* list(browser, "?state=Starting&limit=1000"), 0)
        assert.strictEqual((yield* run(yield* yield* userOf("modest"), "select 1")).state, "Succeeded")
        assert.strictEqual((yield* browser.send("POST", "/logout")).status, 204)
        const again = yield* open
        const location = accepted(yield* post(again, "late", { sql: "select 1" }))
        assert.strictEqual((yield* settled(again, location.slice("/queries/".length))).state, "Succeeded")
        for (const { state } of yield* list(again, "?state=Canceled&limit=1000")) assert.strictEqual(state, "Canceled")
        assert.lengthOf(yield* list(again, "?state=Canceled&limit=1000"), 105)
      })
  )

  it.effect("GET /queries goes from the newest to the oldest, page by page, by state", () =>
    Effect.gen(function* () {
      const browser = yield* yield* userOf("lister")
      const ids: Array<string> = []
      for (let index = 0; index < 7; index++) {
        ids.unshift((yield* run(browser, index % 2 === 0 ? `select ${index}` : `select ${index} / 0`)).id)
      }
      assert.deepStrictEqual(
        (yield* list(browser)).map(({ id }) => id),
        ids
      )
      const pages: Array<ReadonlyArray<string>> = []
      for (let search: string | undefined = "?limit=3"; search !== undefined;) {
        const answer: Answer = yield* browser.send("GET", `/queries${search}`)
        pages.push(queriesOf(answer).map(({ id }) => id))
        // What comes in between shifts nothing.
        if (pages.length === 1) yield* run(browser, "select 'new'")
        search = nextOf(answer)
      }
      assert.deepStrictEqual(pages, [ids.slice(0, 3), ids.slice(3, 6), ids.slice(6)])
      const failed = yield* browser.send("GET", "/queries?state=Failed&limit=2")
      assert.deepStrictEqual(
        queriesOf(failed).map(({ id }) => id),
        [ids[1], ids[3]]
      )
      const rest = yield* browser.send("GET", `/queries${nextOf(failed)}`)
      assert.deepStrictEqual(
        queriesOf(rest).map(({ id }) => id),
        [ids[5]]
      )
      assert.isUndefined(nextOf(rest))
      assert.deepStrictEqual(yield* list(browser, "?state=Running"), [])
      // Nobody else's, whoever has the cursor.
      const stranger = yield* yield* userOf("stranger")
      assert.deepStrictEqual(yield* list(stranger, nextOf(failed)), [])
      // It tells nothing about what others do.
      const place = Effect.map(browser.send("GET", "/queries?limit=1"), (answer) => {
        const cursor = new URLSearchParams(nextOf(answer)).get("cursor") ?? ""
        return Number(/^query:(\d+)$/.exec(Buffer.from(cursor, "base64url").toString())?.[1])
      })
      const before = yield* place
      for (let count = 0; count < 3; count++) yield* run(stranger, "select 1")
      assert.strictEqual(yield* place, before)
      yield* run(browser, "select 1")
      assert.isAbove(yield* place, before)
    })
  )

  it.effect("a cursor of rows is its query's: any page can be fetched again, and none of another query with it", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const Next = Schema.Struct({ next: Schema.NullOr(Schema.String), rows: Schema.Array(Schema.Array(Schema.Json)) })
      const page = (id: string, search: string) =>
        Effect.map(browser.send("GET", `/queries/${id}/rows?limit=2${search}`), (answer) => ({
          ...answer,
          page: Schema.decodeUnknownOption(Next)(answer.json)
        }))
      const [one, other] = [
        yield* run(browser, "select generate_series(1, 5)"),
        yield* run(browser, "select generate_series(11, 15)")
      ]
      const cursors: Array<string> = []
      for (let search: string | undefined = ""; search !== undefined;) {
        const answer: Effect.Success<ReturnType<typeof page>> = yield* page(one.id, search)
        const { next } = Option.getOrThrow(answer.page)
        if (next !== null) cursors.push(next)
        search = next === null ? undefined : `&cursor=${next}`
      }
      assert.lengthOf(cursors, 2)
      for (const [index, rows] of [
        [1, [[5]]],
        [0, [[3], [4]]],
        [0, [[3], [4]]]
      ] as const) {
        const again = yield* page(one.id, `&cursor=${cursors[index]}`)
        assert.deepStrictEqual(Option.getOrThrow(again.page).rows, rows)
      }
      const refused = yield* page(other.id, `&cursor=${cursors[0]}`)
      assert.deepStrictEqual([refused.status, problemOf(refused).code], [400, "CursorInvalid"])
    })
  )

  it.effect("what GET /queries cannot understand is 400", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const { id } = yield* run(browser, "select generate_series(1, 3)")
      const page = yield* browser.send("GET", `/queries/${id}/rows?limit=1`)
      const { next } = Schema.decodeUnknownSync(Schema.Struct({ next: Schema.String }))(page.json)
      for (const [search, code] of [
        ["state=running", "RequestInvalid"],
        ["state=", "RequestInvalid"],
        ["limit=0", "RequestInvalid"],
        ["limit=1001", "RequestInvalid"],
        ["limit=1.5", "RequestInvalid"],
        ["cursor=", "CursorInvalid"],
        ["cursor=x", "CursorInvalid"],
        [`cursor=${next}`, "CursorInvalid"]
      ]) {
        const answer = yield* browser.send("GET", `/queries?${search}`)
        assert.deepStrictEqual([answer.status, problemOf(answer).code], [400, code], search)
      }
    })
  )

  it.effect("a query tells whose it is, when it came into each state, and what its rows take up", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const Told = Schema.Struct({
        session: Schema.String,
        bytes: Schema.NullOr(Schema.Int),
        transitions: Schema.Array(Schema.Struct({ state: Schema.String, at: Schema.String }))
      })
      const told = (id: string) =>
        Effect.map(browser.send("GET", `/queries/${id}`), (answer) => ({
          ...queryOf(answer),
          ...Schema.decodeUnknownSync(Told)(answer.json)
        }))
      const { bytes, endedAt, session, startedAt, submittedAt, transitions } = yield* told(
        (yield* run(browser, "select repeat('x', 1000)")).id
      )
      assert.include((yield* browser.send("GET", "/session")).text, `"id":"${session}"`)
      assert.deepStrictEqual(
        transitions.map(({ state }) => state),
        ["Queued", "Starting", "Running", "Succeeded"]
      )
      assert.isAtLeast(bytes ?? 0, 1000)
      const times = transitions.map(({ at }) => at)
      assert.deepStrictEqual([times[0], times[2], times[3]], [submittedAt, startedAt, endedAt])
      assert.deepStrictEqual(times, times.toSorted())
      const failed = yield* told((yield* run(browser, "select 1 / 0")).id)
      assert.isNull(failed.bytes)
    })
  )

  it.effect("a query that was cancelled stays readable to its principal in another session", () =>
    Effect.gen(function* () {
      const { queries } = yield* Service.Shared
      const open = yield* userOf("reader")
      const [one, other] = [yield* open, yield* open]
      const id = yield* submit(one, "select pg_sleep(60), 'reader'")
      yield* Service.runs(queries.name, "'reader'")
      assert.strictEqual((yield* one.send("POST", "/logout")).status, 204)
      const answer = yield* other.send("GET", `/queries/${id}`)
      assert.strictEqual(answer.status, 200, answer.text)
      const { error, state } = queryOf(answer)
      assert.deepStrictEqual([state, error?.code], ["Canceled", "SessionEnded"])
      yield* eventually(Service.statements(queries.name), (all) => !all.some((sql) => sql.includes("'reader'")))
    })
  )
})
