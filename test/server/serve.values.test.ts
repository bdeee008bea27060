import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { rowsOf, run, settled, submittedId, page } from "../support/browser.ts"
import * as Service from "../support/service.ts"

layer(Service.layerShared(), { excludeTestServices: true, timeout: "60 seconds" })("values over HTTP", (it) => {
  it.effect("Q8 what a page shows is the same value when it is sent back", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      for (const [type, value] of [
        ["jsonb", "'[[]]'"],
        ["jsonb", "'null'"],
        ["jsonb", "null"],
        ["json", `'{"a":1,"a":2}'`],
        ["json", "'-0'"],
        ["jsonb", `'"1"'`],
        ["jsonb", "'[9007199254740993]'"],
        ["bytea", "'\\x00ff'"],
        ["float8", "'-0'"],
        ["float8", "0.1 + 0.2"],
        ["bytea[]", "array['\\x00'::bytea, null]"],
        ["jsonb[]", `array['[1]', '"a"', 'null', null]::jsonb[]`]
      ] as const) {
        const [[shown] = []] = yield* rowsOf(browser, `select (${value})::${type}`)
        const [back] = yield* rowsOf(
          browser,
          `select $1::${type}, $1::${type}::text is not distinct from (${value})::${type}::text`,
          { params: [shown] }
        )
        assert.deepStrictEqual(back, [shown, true], `${type} ${value}`)
      }
    })
  )

  it.effect("Q9 a number is read with every digit that was sent, and a text that UTF-8 cannot tell is refused", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const send = (body: string) =>
        browser.send("POST", "/queries", { body, headers: { "content-type": "application/json" } })
      const answer = yield* send(
        '{"sql":"select $1::int8, $2::numeric, $3::float8, $4::text, $5::jsonb","params":[9007199254740993,1e-400,-0,1.50,12345678901234567890]}'
      )
      const { id, state } = yield* settled(browser, submittedId(answer))
      assert.strictEqual(state, "Succeeded")
      assert.deepStrictEqual((yield* page(browser, id)).rows, [
        ["9007199254740993", `0.${"0".repeat(399)}1`, "-0", "1.5", "12345678901234567890"]
      ])
      for (const body of [
        '{"sql":"select $1::text = $2::text","params":["\\ud800","\\udbff"]}',
        '{"sql":"select \'\\ud800\'"}',
        '{"sql":"select $1::text[]","params":[["\\udbff"]]}',
        '{"sql":"select $1::text","params":["\\u0000"]}'
      ]) {
        const { error, state } = yield* settled(browser, submittedId(yield* send(body)))
        assert.strictEqual(state, "Failed", body)
        assert.strictEqual(error?.code, "StatementFailed")
        assert.match(error?.message ?? "", /surrogate|zero character/)
      }
    })
  )

  it.effect("what the server remarks is told with the query, and in its events", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const { id, notices, noticesDropped } = yield* run(
        browser,
        "do $$ begin raise notice 'one %', 1; raise warning 'two'; for i in 1..200 loop raise notice 'more'; end loop; end $$"
      )
      assert.deepStrictEqual(notices.slice(0, 3), [
        { severity: "NOTICE", message: "one 1" },
        { severity: "WARNING", message: "two" },
        { severity: "NOTICE", message: "more" }
      ])
      assert.strictEqual(notices.length + noticesDropped, 202)
      const { text } = yield* browser.send("GET", `/queries/${id}/events`)
      assert.include(text, "one 1")
    })
  )
})
