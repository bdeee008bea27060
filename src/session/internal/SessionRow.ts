/**
 * Reads sessions as stores hold them: text, counts and moments, in one order. What cannot be read is that session's failure
 * and nobody else's.
 */
import * as DateTime from "effect/DateTime"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import {
  SessionConflict,
  SessionError,
  SessionExpired,
  SessionMissing,
  SessionRevoked,
  SessionSuperseded,
  SessionUndecodable
} from "../SessionError.ts"
import { SessionId } from "../SessionId.ts"
import type { SessionCipher } from "../SessionCipher.ts"
import { Device, SessionRecord } from "../SessionRecord.ts"

/** A row of values in the order of the statement's columns. */
export type Row = ReadonlyArray<unknown>

const decodeRecord = Schema.decodeUnknownResult(
  Schema.Struct({
    ...SessionRecord.fields,
    data: Schema.fromJsonString(Schema.Json),
    device: Schema.fromJsonString(Device),
    createdAt: Schema.DateTimeUtcFromDate,
    lastSeenAt: Schema.DateTimeUtcFromDate,
    idleExpiresAt: Schema.DateTimeUtcFromDate,
    expiresAt: Schema.DateTimeUtcFromDate
  })
)
const State = Schema.Literals(["missing", "expired", "revoked", "superseded", "live"])
const decodeState = Schema.decodeUnknownResult(State)
const isId = Schema.is(SessionId)
const describeIssue = SchemaIssue.makeFormatterStandardSchemaV1()

/** Says where a row is wrong and not what it holds there, which is somebody's data. */
export const undecodable = (what: string) => (error: Schema.SchemaError) => {
  const places = describeIssue(error.issue).issues.map(({ path }) => path?.map(String).join(".") ?? "")
  const problem = `${what} has an unexpected ${places.filter((place) => place !== "").join(", ") || "value"}`
  return new SessionError({ reason: new SessionUndecodable({ problem }) })
}

/** The same without a place. */
export const unexpected = (what: string) =>
  new SessionError({ reason: new SessionUndecodable({ problem: `${what} has an unexpected value` }) })

const isInt = (value: unknown): value is number => Number.isSafeInteger(value)
const isMoment = (value: unknown): value is Date => value instanceof Date && !Number.isNaN(value.getTime())

/** What `JSON.parse` makes is JSON but for the numbers that are too large for one. */
const isFinite = (value: unknown): boolean => {
  if (typeof value === "number") return Number.isFinite(value)
  if (typeof value !== "object" || value === null) return true
  return Object.values(value).every(isFinite)
}

/** A number that may be too large for one, or a text that looks like it. */
const large = /\d[eE]\+?\d{3}|\d{309}/

const parse = (text: unknown): Schema.Json | undefined => {
  if (typeof text !== "string") return undefined
  try {
    const value: Schema.Json = JSON.parse(text)
    return !large.test(text) || isFinite(value) ? value : undefined
  } catch {
    return undefined
  }
}

const isText = (value: unknown): value is string | undefined => value === undefined || typeof value === "string"

/** As its schema decodes it. */
const deviceOf = (value: Schema.Json | undefined): Device | undefined => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined
  const { ip, userAgent } = value as Schema.JsonObject
  if (!isText(ip) || !isText(userAgent)) return undefined
  return { ...(userAgent !== undefined && { userAgent }), ...(ip !== undefined && { ip }) }
}

/** The device that was read last: in a list of somebody's sessions, most have the same. */
let last: { readonly text: unknown; readonly device: Device | undefined } = { text: undefined, device: undefined }
const deviceIn = (text: unknown): Device | undefined => {
  if (text !== last.text) last = { text, device: deviceOf(parse(text)) }
  return last.device
}

/**
 * The same as {@link decodeRecord} at a fifth of its cost, which is what most of a load costs this process. Undefined for
 * whatever is not exactly as it should be.
 */
const plainRecord = (row: Row, from: number, json: string): SessionRecord | undefined => {
  const id = row[from]
  const principal = row[from + 1]
  const data = parse(json)
  const dataVersion = row[from + 3]
  const version = row[from + 4]
  const device = deviceIn(row[from + 5])
  const createdAt = row[from + 6]
  const lastSeenAt = row[from + 7]
  const idleExpiresAt = row[from + 8]
  const expiresAt = row[from + 9]
  const renewalNonce = row[from + 10]
  const actor = row[from + 11]
  return isId(id) &&
    (principal === null || typeof principal === "string") &&
    data !== undefined &&
    isInt(dataVersion) &&
    isInt(version) &&
    device !== undefined &&
    isMoment(createdAt) &&
    isMoment(lastSeenAt) &&
    isMoment(idleExpiresAt) &&
    isMoment(expiresAt) &&
    (renewalNonce === null || typeof renewalNonce === "string") &&
    (actor === null || typeof actor === "string")
    ? {
        id,
        principal,
        actor,
        data,
        dataVersion,
        version,
        device,
        createdAt: DateTime.fromDateUnsafe(createdAt),
        lastSeenAt: DateTime.fromDateUnsafe(lastSeenAt),
        idleExpiresAt: DateTime.fromDateUnsafe(idleExpiresAt),
        expiresAt: DateTime.fromDateUnsafe(expiresAt),
        renewalNonce
      }
    : undefined
}

/** What opens the data of sessions. */
export type Open = SessionCipher["open"]

/** A session, from the twelve columns that begin at `from`. */
export const record = (row: Row, open: Open, from = 0): Result.Result<SessionRecord, SessionError> => {
  const [id, kept] = [row[from], row[from + 2]]
  if (typeof id !== "string" || typeof kept !== "string") return decoded(row, from, kept)
  const data = open(id, kept)
  if (Result.isFailure(data)) return Result.fail(data.failure)
  const plain = plainRecord(row, from, data.success)
  return plain === undefined ? decoded(row, from, data.success) : Result.succeed(plain)
}

const decoded = (row: Row, from: number, data: unknown): Result.Result<SessionRecord, SessionError> =>
  Result.mapError(
    decodeRecord({
      id: row[from],
      principal: row[from + 1],
      data,
      dataVersion: row[from + 3],
      version: row[from + 4],
      device: row[from + 5],
      createdAt: row[from + 6],
      lastSeenAt: row[from + 7],
      idleExpiresAt: row[from + 8],
      expiresAt: row[from + 9],
      renewalNonce: row[from + 10],
      actor: row[from + 11]
    }),
    undecodable(`session ${String(row[from])}`)
  )

/** Why a session is none, from its state. A live one is somebody else's doing. */
export const standing = (row: Row | undefined): SessionError => {
  const state = row === undefined ? Result.succeed("missing" as const) : decodeState(row[0])
  if (Result.isFailure(state)) return undecodable("the state of a session")(state.failure)
  switch (state.success) {
    case "missing":
      return new SessionError({ reason: new SessionMissing() })
    case "expired":
      return new SessionError({ reason: new SessionExpired() })
    case "revoked":
      return new SessionError({ reason: new SessionRevoked() })
    case "superseded":
      return new SessionError({ reason: new SessionSuperseded() })
    case "live":
      return new SessionError({ reason: new SessionConflict() })
  }
}
