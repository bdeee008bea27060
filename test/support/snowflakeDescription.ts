/**
 * What Snowflake's published description of the SQL API (version 2.0.0, OpenAPI) says of requests and answers, as JSON Schema; every
 * message of a test is compared with it.
 */
import addFormats from "ajv-formats"
import Ajv2020 from "ajv/dist/2020.js"
import { gunzipSync } from "node:zlib"
import type { Exchange } from "../../src/testing/SnowflakeServer.ts"

const text = { type: "string" }
const count = { type: "integer", minimum: 0 }
const uuid = { type: "string", format: "uuid" }
const url = { type: "string", format: "uri-reference" }

const status = {
  type: "object",
  properties: {
    code: text,
    sqlState: text,
    message: text,
    statementHandle: uuid,
    createdOn: { type: "integer" },
    statementStatusUrl: url
  }
}

/** Sizes of a type are null where the type has none: the description knows only numbers, and the service sends null. */
const size = { type: ["integer", "null"], minimum: 0 }

const rows = { type: "array", items: { type: "array", items: { type: ["string", "null"] } } }

const resultSet = {
  type: "object",
  properties: {
    ...status.properties,
    resultSetMetaData: {
      type: "object",
      properties: {
        format: { enum: ["jsonv2"] },
        numRows: count,
        rowType: {
          type: "array",
          minItems: 1,
          items: {
            type: "object",
            properties: {
              name: text,
              type: text,
              length: size,
              precision: size,
              scale: size,
              nullable: { type: "boolean" }
            }
          }
        },
        partitionInfo: {
          type: "array",
          items: {
            type: "object",
            properties: { rowCount: count, compressedSize: count, uncompressedSize: count },
            required: ["rowCount", "uncompressedSize"]
          }
        }
      },
      required: ["format", "numRows", "rowType", "partitionInfo"]
    },
    data: rows,
    stats: {
      type: "object",
      properties: {
        numRowsInserted: count,
        numRowsUpdated: count,
        numRowsDeleted: count,
        numDuplicateRowsUpdated: count
      }
    }
  },
  required: ["resultSetMetaData", "data", "statementHandle"]
}

const submission = {
  type: "object",
  properties: {
    statement: text,
    timeout: count,
    database: text,
    schema: text,
    warehouse: text,
    role: text,
    bindings: {
      type: "object",
      additionalProperties: {
        type: "object",
        properties: { type: text, value: { type: ["string", "null"] } },
        required: ["type", "value"],
        additionalProperties: false
      }
    },
    parameters: {
      type: "object",
      properties: { timezone: text, query_tag: text, binary_output_format: text, multi_statement_count: count },
      additionalProperties: text
    }
  },
  required: ["statement"],
  additionalProperties: false
}

const schemas = {
  submission,
  resultSet,
  partition: { type: "object", properties: { data: rows }, required: ["data"], additionalProperties: false },
  queryStatus: { ...status, required: ["statementHandle"] },
  queryFailure: { ...status, required: ["message", "statementHandle"] },
  cancelStatus: { ...status, required: ["statementHandle"] }
}

const ajv = new Ajv2020.default({ strict: false })
addFormats.default(ajv)
const compiled = new Map(Object.entries(schemas).map(([name, schema]) => [name, ajv.compile(schema)]))

const broken: Array<string> = []
const seen = new Set<string>()

const compare = (name: keyof typeof schemas, body: string, where: string) => {
  const validate = compiled.get(name)
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch {
    return void broken.push(`${where}: no JSON: ${body.slice(0, 200)}`)
  }
  if (validate?.(value) !== true)
    broken.push(`${where}: ${ajv.errorsText(validate?.errors ?? [])}: ${body.slice(0, 300)}`)
}

/** The codes that the description lists for each call. A cancel may be answered by any proxy with 429, whatever is listed. */
const answers: Readonly<Record<string, ReadonlyArray<number>>> = {
  submit: [200, 202, 400, 401, 403, 404, 405, 408, 415, 422, 429, 500, 503, 504],
  status: [200, 202, 400, 401, 403, 404, 405, 415, 422, 429, 500, 503, 504],
  partition: [200, 202, 400, 401, 403, 404, 405, 415, 422, 429, 500, 503, 504],
  cancel: [200, 400, 401, 403, 404, 405, 422, 429, 500, 503, 504]
}

const parameters: Readonly<Record<string, ReadonlySet<string>>> = {
  // `retry` is in the documentation of the API, and not in its description.
  submit: new Set(["requestId", "async", "nullable", "retry"]),
  status: new Set(["requestId"]),
  partition: new Set(["requestId", "partition"]),
  cancel: new Set(["requestId"])
}

const schemaOf = (kind: Exchange["kind"], code: number): keyof typeof schemas | undefined => {
  if (kind === "cancel") return code === 200 || code === 422 ? "cancelStatus" : undefined
  if (code === 200) return kind === "partition" ? "partition" : "resultSet"
  if (code === 202 || code === 408) return "queryStatus"
  return code === 422 ? "queryFailure" : undefined
}

/** Compares a call and its answer with the description. */
export const check = ({ kind, reply, request }: Exchange): void => {
  if (kind === "unknown") return
  const where = `${kind} ${reply.status}`
  seen.add(where)
  const note = (problem: string) => void broken.push(`${where}: ${problem}`)
  if (answers[kind]?.includes(reply.status) !== true) note("the description has no such answer")
  if (!request.headers["user-agent"]) note("User-Agent is required")
  if (request.headers.accept !== "application/json") note(`Accept is ${request.headers.accept}`)
  const names = parameters[kind] ?? new Set()
  for (const name of request.url.searchParams.keys()) if (!names.has(name)) note(`there is no parameter ${name}`)
  const requestId = request.url.searchParams.get("requestId")
  if (requestId !== null && ajv.validate(uuid, requestId) !== true) note("requestId is no UUID")
  const handle = request.url.pathname.split("/")[4]
  if (handle !== undefined && ajv.validate(uuid, handle) !== true) note("the handle is no UUID")
  if (kind === "submit") compare("submission", request.body, `${where} request`)
  const isCompressed = reply.headers["content-encoding"] === "gzip"
  const isFirst = kind === "partition" && request.url.searchParams.get("partition") === "0"
  const schema = schemaOf(isFirst ? "status" : kind, reply.status)
  if (schema === undefined) return
  const body = Buffer.from(isCompressed ? gunzipSync(reply.body) : reply.body).toString("utf8")
  compare(schema, body, where)
}

/** How many messages were not as the description says so far. */
export const brokenSoFar = (): number => broken.length

/** Fails with what was not as the description says, of what came after so many. */
export const assertKept = (since = 0): void => {
  const later = broken.slice(since)
  if (later.length > 0) throw new Error(`${later.length} messages are not as described; the first: ${later[0]}`)
}

/** Kinds of calls and their answers that were compared so far. */
export const compared = (): ReadonlySet<string> => seen
