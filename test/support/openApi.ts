/**
 * The service against its own description: requests that are made from `/openapi.json`, and answers that are compared with it.
 */
import Ajv2020 from "ajv/dist/2020.js"
import addFormats from "ajv-formats"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type { Answer } from "./browser.ts"

type Json = Readonly<Record<string, unknown>>

/** What is there at a path through objects; an empty object where nothing is. */
export const at = (json: unknown, ...path: ReadonlyArray<string>): Json => {
  let found = json
  for (const name of path) found = Predicate.isObject(found) ? (found as Json)[name] : undefined
  return Predicate.isObject(found) ? (found as Json) : {}
}
export const listOf = (json: unknown): ReadonlyArray<Json> => (Array.isArray(json) ? json.map((one) => at(one)) : [])

/** A call of the description. */
export interface Call {
  readonly method: string
  readonly path: string
  readonly operation: Json
  readonly parameters: ReadonlyArray<Json>
  readonly bodies: Json
  readonly responses: Json
}

const nameOf = ({ method, path }: Call) => `${method} ${path}`

/** The calls of a description. */
export const callsOf = (document: unknown): ReadonlyArray<Call> =>
  Object.entries(at(document, "paths")).flatMap(([path, item]) =>
    Object.entries(at(item)).map(([method, operation]) => ({
      method: method.toUpperCase(),
      path,
      operation: at(operation),
      parameters: listOf(at(operation)["parameters"]),
      bodies: at(operation, "requestBody", "content"),
      responses: at(operation, "responses")
    }))
  )

/** Numbers from 0 up to 1 that follow from a seed (mulberry32). */
export const randomOf = (seed: number) => {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  return {
    below,
    chance: (share: number) => next() < share,
    pick: <A>(all: ReadonlyArray<A>): A => all[below(all.length)] as A
  }
}
export type Random = ReturnType<typeof randomOf>

const texts = [
  "",
  "a",
  "ü",
  "😀",
  "\0",
  "\ud800",
  "select 1",
  "select pg_sleep(0.02)",
  "nonsense",
  "x".repeat(200),
  "null"
]
const oddities: ReadonlyArray<unknown> = [null, true, 0, -1, 1.5, 1e300, "", "a", [], {}, [[]], { a: { b: 1 } }]
const numbers = ["9007199254740993", "1e999", "-0", "0.30000000000000000001"]

/** A value that a schema allows, more or less. */
const valueOf = (random: Random, schema: Json): unknown => {
  if (Array.isArray(schema["enum"])) return random.pick(schema["enum"])
  switch (schema["type"]) {
    case "string":
      return random.pick(texts)
    case "integer":
      return Number(schema["minimum"] ?? 0) + random.below(20)
    case "boolean":
      return random.chance(0.5)
    case "array":
      return Array.from({ length: random.below(3) }, () =>
        schema["items"] === undefined ? random.pick(oddities) : valueOf(random, at(schema["items"]))
      )
    case "object": {
      const required = Array.isArray(schema["required"]) ? schema["required"] : []
      const entries = Object.entries(at(schema, "properties"))
        .filter(([name]) => required.includes(name) || random.chance(0.4))
        .map(([name, one]) => [name, valueOf(random, at(one))])
      if (entries.length === 0) return random.pick([{}, { a: 1 }, { a: { b: null } }, { __proto__: 1 }, { n: [1, 2] }])
      return Object.fromEntries(entries)
    }
    default:
      return random.pick(oddities)
  }
}

/** The same value with something wrong about it. */
const broken = (random: Random, value: unknown): unknown => {
  if (!Predicate.isObject(value) || random.chance(0.2)) return random.pick(oddities)
  const members = Object.entries(value)
  switch (random.below(4)) {
    case 0:
      return Object.fromEntries(members.slice(1))
    case 1:
      return { ...value, [random.pick(["limti", "SQL", "__proto__x", "password ", "0"])]: random.pick(oddities) }
    case 2:
      return Object.fromEntries(members.map(([name, one]) => [name, random.chance(0.5) ? random.pick(oddities) : one]))
    default:
      return { ...value, deep: JSON.parse(`${"[".repeat(300)}${"]".repeat(300)}`) }
  }
}

/** What is put where a parameter of a path stands: ids that there are, and what is none. */
type Ids = (path: string) => ReadonlyArray<string>

const noIds = [
  "x",
  "q_",
  "%00",
  "..",
  "%2e%2e",
  "a%2Fb",
  "q_00000000-0000-4000-8000-000000000000",
  "ü",
  "x".repeat(300)
]

const pathOf = (random: Random, { parameters, path }: Call, ids: Ids) => {
  const filled = path.replace("{id}", () => random.pick(random.chance(0.6) ? ids(path) : noIds))
  const search = parameters
    .filter((parameter) => parameter["in"] === "query" && random.chance(0.4))
    .map((parameter) => {
      const value = random.chance(0.6) ? valueOf(random, at(parameter["schema"])) : random.pick(oddities)
      return `${String(parameter["name"])}=${encodeURIComponent(typeof value === "string" && !value.isWellFormed() ? "?" : String(value))}`
    })
  return search.length === 0 ? filled : `${filled}?${search.join("&")}`
}

/** A path that is nearly one. */
const bent = (random: Random, path: string) =>
  random.pick([
    path.toUpperCase(),
    `${path}/`,
    `/${path}`,
    `${path};x`,
    path.replace(/[a-z]/, (letter) => `%${letter.charCodeAt(0).toString(16)}`),
    `${path}#x`,
    `/x${path}`,
    "*",
    ""
  ])

const oddHeaders = [
  "Accept: application/xml",
  "Accept: */*;q=0",
  "Accept-Encoding: gzip",
  'If-Match: "1"',
  "If-Match: *",
  'If-Match: *, "1"',
  'If-None-Match: "1"',
  "If-None-Match: *",
  "If-None-Match: x",
  "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
  "Range: bytes=0-0",
  "Origin: https://evil.example",
  "Origin: null",
  "Sec-Fetch-Site: cross-site",
  "Expect: 100-continue",
  "Expect: something",
  "Host: b",
  "Idempotency-Key: key",
  "Idempotency-Key: a b",
  "Last-Event-ID: 1",
  "Last-Event-ID: x",
  "Last-Event-ID: 99",
  "Cookie: a=b",
  "X-HTTP-Method-Override: DELETE",
  "Upgrade: websocket",
  "Content-Encoding: gzip",
  "no colon",
  "A: \x01",
  `Long: ${"x".repeat(20_000)}`
]

const mediaTypes = [
  "text/plain",
  "application/xml",
  "application/json; charset=utf-16",
  "",
  "multipart/form-data",
  "*/*"
]

const bodyOf = (random: Random, { bodies }: Call): readonly [type: string, text: string] | undefined => {
  const [type = "application/json", content] = random.chance(0.8) ? (random.pick(Object.entries(bodies)) ?? []) : []
  if (content === undefined && random.chance(0.7)) return undefined
  const schema = at(content, "schema")
  const value = valueOf(random, schema)
  const said = random.chance(0.9) ? type : random.pick(mediaTypes)
  const text = JSON.stringify(random.chance(0.4) ? broken(random, value) : value) ?? ""
  if (random.chance(0.04)) return [said, text.slice(0, -1)]
  if (random.chance(0.04)) return [said, text.replace(/\d+|true|null/, random.pick(numbers))]
  if (random.chance(0.01)) return [said, `{"a":"${"x".repeat(2 ** 20)}"}`]
  return [said, text]
}

/** A request, byte by byte, and the call whose answers are its; none where it is asked for no call. */
export interface Request {
  readonly call: Call | undefined
  readonly method: string
  readonly bytes: Buffer
}

/** Makes a request that somebody might send. */
export const requestOf = (
  random: Random,
  calls: ReadonlyArray<Call>,
  ids: Ids,
  own: ReadonlyArray<string>
): Request => {
  // A login takes its time on purpose, so what makes one necessary is asked more seldom.
  const all = random.chance(0.85)
    ? calls.filter((call) => !/^(?:POST \/log|DELETE \/sessions)/.test(nameOf(call)))
    : calls
  const chosen = random.pick(all)
  const path = pathOf(random, chosen, ids)
  const isBent = random.chance(0.06)
  const [before = "", ...search] = path.split("?")
  const target = isBent ? [bent(random, before), ...search].join("?") : path
  const method = random.chance(0.93) ? chosen.method : random.pick(["HEAD", "GET", "POST", "PUT", "OPTIONS", "TRACE"])
  const body = bodyOf(random, chosen)
  const headers = [
    `${method} ${target} HTTP/1.1`,
    "Host: x",
    "Connection: close",
    ...own,
    ...(chosen.method === "PUT" && random.chance(0.7) ? ["If-Match: *"] : []),
    ...(random.chance(0.3) ? [random.pick(oddHeaders)] : []),
    ...(body === undefined ? [] : [`Content-Type: ${body[0]}`, `Content-Length: ${Buffer.byteLength(body[1])}`])
  ]
  const isKnown = calls.some(
    (call) => call.path === chosen.path && call.method === (method === "HEAD" ? "GET" : method)
  )
  const call = isKnown
    ? calls.find((call) => call.path === chosen.path && call.method === (method === "HEAD" ? "GET" : method))
    : undefined
  return {
    call: isBent ? undefined : call,
    method,
    bytes: Buffer.concat([Buffer.from(`${headers.join("\r\n")}\r\n\r\n`, "utf8"), Buffer.from(body?.[1] ?? "")])
  }
}

/** Compares answers with a description; answers what is wrong. */
export const validatorOf = (document: Json) => {
  // What OpenAPI adds to JSON Schema is not for a validator of values.
  const ajv = new Ajv2020.default({ strict: false, allErrors: false })
  addFormats.default(ajv)
  ajv.addSchema({ $id: "api", components: document["components"] })
  const compiled = new Map<object, ReturnType<typeof ajv.compile>>()
  const problemsOf = (schema: Json, value: unknown): ReadonlyArray<string> => {
    const validate =
      compiled.get(schema) ??
      ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/components/', '"api#/components/')))
    compiled.set(schema, validate)
    return validate(value) ? [] : [ajv.errorsText(validate.errors)]
  }
  const resolve = (json: Json): Json => {
    const reference = json["$ref"]
    return typeof reference === "string" ? { ...at(document, ...reference.slice(2).split("/")), ...json } : json
  }

  const headers = (response: Json, answer: Answer) =>
    Object.entries(at(response, "headers")).flatMap(([name, raw]) => {
      const header = resolve(at(raw))
      const value = answer.headers.get(name)
      if (value === null) return header["required"] === true ? [`has no ${name}`] : []
      const schema = at(header, "schema")
      return problemsOf(schema, schema["type"] === "integer" ? Number(value) : value).map((it) => `${name}: ${it}`)
    })

  return ({ call, method }: Request, answer: Answer): ReadonlyArray<string> => {
    const type = answer.headers.get("content-type")
    if (call === undefined) {
      const known = [400, 403, 404, 405, 417, 431].includes(answer.status)
      return known && type === "application/problem+json" ? [] : [`${answer.status} ${type} where there is no call`]
    }
    const response = at(call.responses, String(answer.status))
    if (Object.keys(response).length === 0) return [`the status ${answer.status} is not declared`]
    const wrong = headers(response, answer)
    const contents = at(response, "content")
    // Of what is no HTTP or too much of it, nobody knows that it was meant to be a HEAD.
    const isUnread = [400, 431].includes(answer.status) && answer.text !== ""
    if ((method === "HEAD" && !isUnread) || Object.keys(contents).length === 0) {
      return answer.text === "" ? wrong : [...wrong, "has a body that is not declared"]
    }
    const content = contents[type ?? ""]
    if (content === undefined) return [...wrong, `the type ${type} is not declared for ${answer.status}`]
    return answer.json === undefined ? wrong : [...wrong, ...problemsOf(at(content, "schema"), answer.json)]
  }
}

/** The description that a service gives of itself. */
export const documentOf = (answer: Effect.Effect<Answer>) => Effect.map(answer, ({ json }) => at(json))
