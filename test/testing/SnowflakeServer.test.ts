import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { randomUUID } from "node:crypto"
import type { SnowflakeServer } from "../../src/testing/SnowflakeServer.ts"
import { gate } from "../support/postgres.ts"
import { serverOf } from "../support/snowflake.ts"
import * as SnowflakeDescription from "../support/snowflakeDescription.ts"

type Server = SnowflakeServer["Service"]

interface Asked {
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
  readonly method?: string
}

const ask = (server: Server, path: string, { body, headers, method }: Asked = {}) =>
  Effect.promise(async () => {
    const response = await fetch(`${server.url}${path}`, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers: {
        authorization: `Bearer ${Redacted.value(server.token)}`,
        "x-snowflake-authorization-token-type": "PROGRAMMATIC_ACCESS_TOKEN",
        accept: "application/json",
        "content-type": "application/json",
        "user-agent": "test/1",
        ...headers
      },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) })
    })
    const text = await response.text()
    return { status: response.status, headers: response.headers, json: text === "" ? undefined : JSON.parse(text) }
  })

const statements = "/api/v2/statements"
const submit = (server: Server, body: unknown, query = "") =>
  ask(server, `${statements}?requestId=${randomUUID()}${query}`, { body })

describe("SnowflakeServer", () => {
  it.live("answers as the description of the API says, at once or later", () =>
    Effect.gen(function* () {
      // Other tests of this file say what nobody may say.
      const before = SnowflakeDescription.brokenSoFar()
      const { database, server } = yield* serverOf({ partitionBytes: 300 })
      const sql = "select n, 'x' as x from generate_series(1, 100) n"
      const now = yield* submit(server, { statement: sql })
      assert.deepInclude(now.json, { code: "090001", sqlState: "00000" })
      assert.strictEqual(now.json.resultSetMetaData.numRows, 100)
      const { partitionInfo } = now.json.resultSetMetaData
      assert.isAbove(partitionInfo.length, 2)
      assert.strictEqual(now.json.data.length, partitionInfo[0].rowCount)
      const link = now.headers.get("link") ?? ""
      const next = /<([^>]+)>; rel="next"/.exec(link)?.[1] ?? assert.fail(link)
      const second = yield* ask(server, next)
      assert.strictEqual(second.json.data[0][0], String(partitionInfo[0].rowCount + 1))
      const beyond = yield* ask(server, `${statements}/${now.json.statementHandle}?partition=999`)
      assert.strictEqual(beyond.status, 400)

      const { open, wait } = yield* gate(database)
      const slow = `select ${wait}, 'later'`
      const requestId = randomUUID()
      const path = `${statements}?requestId=${requestId}&async=true`
      const later = yield* ask(server, path, { body: { statement: slow } })
      assert.deepInclude({ status: later.status, ...later.json }, { status: 202, code: "333334" })
      const again = yield* ask(server, `${path}&retry=true`, { body: { statement: "select 'another'" } })
      assert.strictEqual(again.json.statementHandle, later.json.statementHandle)
      const looked = yield* ask(server, later.json.statementStatusUrl)
      assert.strictEqual(looked.status, 202)
      yield* open
      const same = yield* ask(server, `${statements}?requestId=${requestId}`, { body: { statement: "" } })
      assert.deepStrictEqual(same.json.data, [["", "later"]])
      assert.strictEqual(yield* server.executions(slow), 1)
      SnowflakeDescription.assertKept(before)
    }).pipe(Effect.scoped)
  )

  it.live("takes bindings of every type, and none in texts and comments", () =>
    Effect.gen(function* () {
      const { server } = yield* serverOf()
      const { json } = yield* submit(server, {
        statement: `select ?, ? + 1, ?, ?, ?, ?, ?, '?', "?".a, $x$ ? $x$ /* ? */ from (select 1 as a) "?" -- ?`,
        bindings: Object.fromEntries(
          [
            ["TEXT", "it's"],
            ["FIXED", "41"],
            ["BOOLEAN", "true"],
            ["DATE", "1577836800000"],
            ["TIME", "82919000000000"],
            ["TIMESTAMP_NTZ", "1611871901123456000"],
            ["BINARY", "00ff"]
          ].map(([type, value], index) => [String(index + 1), { type, value }])
        )
      })
      assert.deepStrictEqual(json.data, [
        ["it's", "42", "true", "18262", "82919.000000000", "1611871901.123456000", "00FF", "?", "1", " ? "]
      ])
      const missing = yield* submit(server, {
        statement: "select ?, ?",
        bindings: { "1": { type: "TEXT", value: "x" } }
      })
      assert.deepInclude({ status: missing.status, ...missing.json }, { status: 422, code: "002049" })
    }).pipe(Effect.scoped)
  )

  it.live("says what is wrong, by the codes of Snowflake", () =>
    Effect.gen(function* () {
      const { server } = yield* serverOf()
      const coded = ({ json, status }: { readonly status: number; readonly json: { readonly code?: string } }) =>
        `${status} ${json.code}`
      const unknown = `${statements}/${randomUUID()}`
      assert.strictEqual(coded(yield* submit(server, { statement: "selec 1" })), "422 001003")
      assert.strictEqual(coded(yield* submit(server, { statement: "select * from nowhere" })), "422 002003")
      assert.strictEqual(coded(yield* submit(server, { statement: "select nothing" })), "422 000904")
      assert.strictEqual(
        coded(yield* submit(server, { statement: "select 1", parameters: { nonsense: "1" } })),
        "422 001420"
      )
      assert.strictEqual(coded(yield* submit(server, { statement: "select pg_sleep(9)", timeout: 1 })), "422 000630")
      assert.strictEqual(coded(yield* submit(server, "{")), "400 390142")
      assert.strictEqual(coded(yield* submit(server, "x".repeat(17 * 1024 * 1024))), "413 391908")
      assert.strictEqual(coded(yield* ask(server, unknown)), "404 000709")
      assert.strictEqual(coded(yield* ask(server, `${unknown}/cancel`, { body: {} })), "422 000709")
      assert.strictEqual(coded(yield* ask(server, `${statements}?requestId=x`, { body: {} })), "400 391905")
      assert.strictEqual(coded(yield* ask(server, "/api/v2/nothing")), "404 390404")
      assert.strictEqual((yield* ask(server, statements)).status, 405)
      const text = { "content-type": "text/plain" }
      assert.strictEqual((yield* ask(server, statements, { body: "{}", headers: text })).status, 415)
      assert.strictEqual((yield* ask(server, unknown, { headers: { accept: "text/html" } })).status, 415)
      assert.strictEqual(coded(yield* ask(server, unknown, { headers: { authorization: "Bearer x" } })), "401 394400")
      assert.strictEqual(coded(yield* ask(server, unknown, { headers: { authorization: "" } })), "401 390101")
    }).pipe(Effect.scoped)
  )

  it.live("ends statements, and says when they had their own end first", () =>
    Effect.gen(function* () {
      const { server } = yield* serverOf()
      const submitted = Effect.fnUntraced(function* (statement: string) {
        const { json } = yield* submit(server, { statement }, "&async=true")
        return `${statements}/${json.statementHandle}`
      })
      const running = yield* submitted("select pg_sleep(60)")
      const canceled = yield* ask(server, `${running}/cancel`, { body: {} })
      assert.deepInclude(
        { status: canceled.status, ...canceled.json },
        { status: 200, code: "000604", sqlState: "57014" }
      )
      const looked = yield* ask(server, running)
      assert.deepInclude({ status: looked.status, ...looked.json }, { status: 422, code: "000604" })
      const late = yield* ask(server, `${running}/cancel`, { body: {} })
      assert.deepInclude({ status: late.status, ...late.json }, { status: 422, code: "000605" })

      const other = yield* submitted("select pg_sleep(60)")
      const handle = other.split("/").at(-1)
      const { json } = yield* submit(server, { statement: `select system$cancel_query('${handle}')` })
      assert.deepStrictEqual(json.data, [["query terminated."]])
      assert.strictEqual((yield* ask(server, other)).status, 422)
      assert.strictEqual(yield* server.running, 0)
    }).pipe(Effect.scoped)
  )

  it.live("tells how many rows were written, as one row and in `stats`", () =>
    Effect.gen(function* () {
      const { server } = yield* serverOf()
      const { json } = yield* submit(server, { statement: "create table t (n int)" })
      assert.deepStrictEqual(json.data, [["Statement executed successfully."]])
      for (const [statement, field, column] of [
        ["insert into t values (1), (2)", "numRowsInserted", "number of rows inserted"],
        ["update t set n = n + 1", "numRowsUpdated", "number of rows updated"],
        ["delete from t", "numRowsDeleted", "number of rows deleted"]
      ] as const) {
        const { json } = yield* submit(server, { statement })
        assert.deepStrictEqual(json.data, [["2"]])
        assert.strictEqual(json.stats[field], 2)
        assert.strictEqual(json.resultSetMetaData.rowType[0].name, column)
      }
    }).pipe(Effect.scoped)
  )
})
