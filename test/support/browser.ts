/**
 * A client of the service as simple as a browser: it sends requests and keeps cookies. It knows nothing of the code under
 * test; what it reads is decoded by schemas of its own.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { eventually } from "./conditions.ts"

/** A response, read to its end. */
export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** The decoded JSON; undefined where the response is none. */
  readonly json: unknown
}

export interface RequestOptions {
  /** Sent as `application/json`. */
  readonly json?: unknown
  /** Sent as it is. */
  readonly body?: string | Uint8Array<ArrayBuffer> | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
}

export interface Browser {
  readonly url: string
  /** By name. */
  readonly cookies: Map<string, string>
  readonly send: (method: string, path: string, options?: RequestOptions) => Effect.Effect<Answer>
}

const parseJson = (text: string): unknown => JSON.parse(text)

/** Stores what `Set-Cookie` says, as far as the service makes use of it. */
const keep = (cookies: Map<string, string>, header: string) => {
  const [pair = "", ...attributes] = header.split("; ")
  const [name = "", value = ""] = pair.split("=")
  if (attributes.some((attribute) => /^max-age=0$/i.test(attribute))) cookies.delete(name)
  else cookies.set(name, value)
}

/** A new browser without cookies. Dies when there is no answer. */
export const make = (url: string): Browser => {
  const cookies = new Map<string, string>()
  const send = async (signal: AbortSignal, method: string, path: string, options: RequestOptions = {}) => {
    const cookie = Array.from(cookies, ([name, value]) => `${name}=${value}`).join("; ")
    const response = await fetch(`${url}${path}`, {
      method,
      signal,
      redirect: "manual",
      headers: {
        ...(cookie !== "" && { cookie }),
        ...(options.json !== undefined && { "content-type": "application/json" }),
        ...options.headers
      },
      body: options.json === undefined ? (options.body ?? null) : JSON.stringify(options.json)
    })
    for (const header of response.headers.getSetCookie()) keep(cookies, header)
    const text = await response.text()
    const isJson = /^application\/(?:[\w.]+\+)?json/.test(response.headers.get("content-type") ?? "")
    return { status: response.status, headers: response.headers, text, json: isJson ? parseJson(text) : undefined }
  }
  return {
    url,
    cookies,
    send: (method, path, options) => Effect.promise((signal) => send(signal, method, path, options))
  }
}

/** What the cookie of the service at a loopback URL is called. */
export const cookieName = (url: string) => `holdfast-dev-${new URL(url).port}`

/** Logs in, which must succeed. */
export const login = (browser: Browser, json: { readonly username: string; readonly password: string }) =>
  Effect.gen(function* () {
    const { status, text } = yield* browser.send("POST", "/login", { json })
    assert.strictEqual(status, 200, text)
    return browser
  })

const Query = Schema.Struct({
  id: Schema.String,
  state: Schema.String,
  sql: Schema.String,
  rowCount: Schema.NullOr(Schema.Int),
  submittedAt: Schema.String,
  startedAt: Schema.NullOr(Schema.String),
  endedAt: Schema.NullOr(Schema.String),
  expiresAt: Schema.NullOr(Schema.String),
  error: Schema.NullOr(
    Schema.Struct({
      code: Schema.String,
      message: Schema.String,
      sqlState: Schema.optionalKey(Schema.String),
      position: Schema.optionalKey(Schema.Int),
      written: Schema.optionalKey(Schema.String)
    })
  ),
  notices: Schema.Array(Schema.Struct({ severity: Schema.String, message: Schema.String })),
  noticesDropped: Schema.Int
})
export type Query = typeof Query.Type

export const queryOf = ({ json }: Answer): Query => Schema.decodeUnknownSync(Query)(json)
export const queriesOf = ({ json }: Answer): ReadonlyArray<Query> => Schema.decodeUnknownSync(Schema.Array(Query))(json)

const Submitted = Schema.Struct({ id: Schema.String, state: Schema.String })

export const submittedId = ({ json }: Answer) => Schema.decodeUnknownSync(Submitted)(json).id

/** Submits a query, which must be accepted, and answers its id. */
export const submit = (browser: Browser, sql: string, more: Readonly<Record<string, unknown>> = {}) =>
  Effect.gen(function* () {
    const answer = yield* browser.send("POST", "/queries", { json: { sql, ...more } })
    assert.strictEqual(answer.status, 202, answer.text)
    return submittedId(answer)
  })

/** Waits until a query is over. One with much to do takes its time on a busy machine. */
export const settled = (browser: Browser, id: string) =>
  eventually(
    Effect.map(browser.send("GET", `/queries/${id}`), queryOf),
    ({ state }) => ["Succeeded", "Failed", "Canceled"].includes(state),
    "60 seconds"
  )

/** Submits a query and waits until it is over. */
export const run = (browser: Browser, sql: string, more?: Readonly<Record<string, unknown>>) =>
  Effect.flatMap(submit(browser, sql, more), (id) => settled(browser, id))

const Page = Schema.Struct({
  columns: Schema.Array(Schema.Struct({ name: Schema.String, type: Schema.String })),
  rows: Schema.Array(Schema.Array(Schema.Unknown)),
  next: Schema.NullOr(Schema.String)
})

/** A page of a query's rows. `search` as in `?limit=2`. */
export const page = (browser: Browser, id: string, search = "") =>
  Effect.gen(function* () {
    const { json, status, text } = yield* browser.send("GET", `/queries/${id}/rows${search}`)
    assert.strictEqual(status, 200, text)
    return Schema.decodeUnknownSync(Page)(json)
  })

/** Runs a query, which must succeed, and answers its rows. */
export const rowsOf = (browser: Browser, sql: string, more?: Readonly<Record<string, unknown>>) =>
  Effect.gen(function* () {
    const query = yield* run(browser, sql, more)
    assert.strictEqual(query.state, "Succeeded", query.error?.message)
    return (yield* page(browser, query.id)).rows
  })

const ProblemDetails = Schema.Struct({
  type: Schema.NonEmptyString,
  title: Schema.NonEmptyString,
  status: Schema.Int,
  code: Schema.NonEmptyString,
  detail: Schema.optionalKey(Schema.String)
})

/** The problem that an answer must be, with everything that the service promises of one. */
export const problemOf = (answer: Pick<Answer, "status" | "headers" | "json" | "text">) => {
  assert.match(answer.headers.get("content-type") ?? "", /^application\/problem\+json/, answer.text)
  const problem = Schema.decodeUnknownSync(ProblemDetails)(answer.json)
  assert.strictEqual(problem.status, answer.status)
  assert.strictEqual(problem.type, `urn:holdfast:problem:${problem.code}`)
  return problem
}

/** How the answer came out, which must be there within the 5 seconds that the service promises. */
export const inTime = (answer: Effect.Effect<Answer>) =>
  Effect.map(Effect.timeoutOption(answer, "5 seconds"), (it) => {
    if (Option.isNone(it)) return "no answer within 5 seconds"
    const { status } = it.value
    return status < 400 ? ([status, ""] as const) : ([status, problemOf(it.value).code] as const)
  })
