/**
 * Reads what the statements of `PgSessionStore` answer. A row that cannot be read is that row's failure and nobody else's.
 */
import * as Duration from "effect/Duration"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
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
} from "./SessionError.ts"
import { SessionId } from "./SessionId.ts"
import { Device, SessionRecord } from "./SessionRecord.ts"
import type { Login } from "./SessionStore.ts"

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
const decodeDevice = Schema.decodeUnknownResult(Device)
const decodeId = Schema.decodeUnknownResult(SessionId)
const decodeIds = Schema.decodeUnknownResult(Schema.fromJsonString(Schema.Array(SessionId)))
const describeIssue = SchemaIssue.makeFormatterStandardSchemaV1()

/** Says where a row is wrong and not what it holds there, which is somebody's data. */
const undecodable = (what: string) => (error: Schema.SchemaError) => {
  const places = describeIssue(error.issue).issues.map(({ path }) => path?.map(String).join(".") ?? "")
  const problem = `${what} has an unexpected ${places.filter((place) => place !== "").join(", ") || "value"}`
  return new SessionError({ reason: new SessionUndecodable({ problem }) })
}

const unexpected = (what: string) =>
  new SessionError({ reason: new SessionUndecodable({ problem: `${what} has an unexpected value` }) })

const isInt = (value: unknown): value is number => Number.isSafeInteger(value)
const isMoment = (value: unknown): value is Date => value instanceof Date && !Number.isNaN(value.getTime())

/** What `JSON.parse` makes is JSON but for the numbers that are too large for one. */
const isFinite = (value: unknown): boolean => {
  if (typeof value === "number") return Number.isFinite(value)
  if (typeof value !== "object" || value === null) return true
  if (Array.isArray(value)) return value.every(isFinite)
  for (const key in value) if (!isFinite(value[key as never])) return false
  return true
}

const parse = (text: unknown): Schema.Json | undefined => {
  if (typeof text !== "string") return undefined
  try {
    const value: Schema.Json = JSON.parse(text)
    return isFinite(value) ? value : undefined
  } catch {
    return undefined
  }
}

/**
 * The same as {@link decodeRecord} at a fifth of its cost, which is what most of a load costs this process. Undefined for
 * whatever is not exactly as it should be.
 */
const plainRecord = (row: Row, from: number): SessionRecord | undefined => {
  const id = row[from]
  const principal = row[from + 1]
  const data = parse(row[from + 2])
  const dataVersion = row[from + 3]
  const version = row[from + 4]
  const device = decodeDevice(parse(row[from + 5]))
  const createdAt = row[from + 6]
  const lastSeenAt = row[from + 7]
  const idleExpiresAt = row[from + 8]
  const expiresAt = row[from + 9]
  const renewalNonce = row[from + 10]
  return isId(id) &&
    (principal === null || typeof principal === "string") &&
    data !== undefined &&
    isInt(dataVersion) &&
    isInt(version) &&
    Result.isSuccess(device) &&
    isMoment(createdAt) &&
    isMoment(lastSeenAt) &&
    isMoment(idleExpiresAt) &&
    isMoment(expiresAt) &&
    (renewalNonce === null || typeof renewalNonce === "string")
    ? {
        id,
        principal,
        data,
        dataVersion,
        version,
        device: device.success,
        createdAt: DateTime.fromDateUnsafe(createdAt),
        lastSeenAt: DateTime.fromDateUnsafe(lastSeenAt),
        idleExpiresAt: DateTime.fromDateUnsafe(idleExpiresAt),
        expiresAt: DateTime.fromDateUnsafe(expiresAt),
        renewalNonce
      }
    : undefined
}

/** A session, from the columns that begin at `from`. */
export const record = (row: Row, from = 0): Result.Result<SessionRecord, SessionError> => {
  const plain = plainRecord(row, from)
  if (plain !== undefined) return Result.succeed(plain)
  return Result.mapError(
    decodeRecord({
      id: row[from],
      principal: row[from + 1],
      data: row[from + 2],
      dataVersion: row[from + 3],
      version: row[from + 4],
      device: row[from + 5],
      createdAt: row[from + 6],
      lastSeenAt: row[from + 7],
      idleExpiresAt: row[from + 8],
      expiresAt: row[from + 9],
      renewalNonce: row[from + 10]
    }),
    undecodable(`session ${String(row[from])}`)
  )
}

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

/** Rows of a load by the place of the hash that each is for, which is their last value. */
export const inPlace = (rows: ReadonlyArray<Row>): ReadonlyArray<Row> => {
  const sorted: Array<Row> = []
  for (const row of rows) sorted[Number(row.at(-1))] = row
  return sorted
}

/** Whether the activity of a live session is still to be written. */
export const touched = (row: Row | undefined): Result.Result<boolean, SessionError> => {
  if (row === undefined) return Result.fail(unexpected("the answer of the server"))
  if (row[0] !== "live") return Result.fail(standing(row))
  return typeof row[1] === "boolean" ? Result.succeed(row[1]) : Result.fail(unexpected("the state of a session"))
}

/** What a load found: the session, and whether its activity is still to be written. */
export const loaded = (
  row: Row | undefined
): Result.Result<{ readonly record: SessionRecord; readonly owed: boolean }, SessionError> => {
  const owed = touched(row)
  if (Result.isFailure(owed)) return Result.fail(owed.failure)
  return Result.map(record(row ?? [], 2), (record) => ({ record, owed: owed.success }))
}

/** What to remember of a row that was found, and how many bytes its data and device take; nothing without a stamp. */
export const remembered = (
  row: Row,
  record: SessionRecord
): { readonly stamp: string; readonly bytes: number } | undefined => {
  const [data, device, stamp] = [row[4], row[7], row[13]]
  return typeof stamp === "string" &&
    typeof data === "string" &&
    typeof device === "string" &&
    record.renewalNonce === null
    ? { stamp, bytes: data.length + device.length }
    : undefined
}

/** Whether a live session's row is still the one of the stamp, and no renewal is due; whether its activity is owed. */
export const confirmed = (
  row: Row | undefined,
  stamp: string
): Result.Result<{ readonly isSame: boolean; readonly owed: boolean }, SessionError> =>
  Result.map(touched(row), (owed) => ({ owed, isSame: row?.[2] === stamp && row[3] === null }))

/** What came of a login: the session, and behind its columns the ids of those that made room. */
export const login = (row: Row | undefined): Result.Result<Login, SessionError> => {
  if (row === undefined) return Result.fail(standing(row))
  return Result.gen(function* () {
    const displaced = yield* Result.mapError(decodeIds(row[11]), undecodable("a list of displaced sessions"))
    return { record: yield* record(row), displaced }
  })
}

const decodeEpoch = Schema.decodeUnknownResult(Schema.Tuple([Schema.Finite]))

/** The epoch of a principal; zero when nothing is known of it. */
export const epoch = (row: Row | undefined): Result.Result<number, SessionError> =>
  row === undefined
    ? Result.succeed(0)
    : Result.map(Result.mapError(decodeEpoch(row), undecodable("the epoch of a principal")), ([epoch]) => epoch)

const decodeLag = Schema.decodeUnknownResult(Schema.Tuple([Schema.NullOr(Schema.Finite)]))

/** How far pruning is behind. */
export const lag = (row: Row | undefined): Result.Result<Duration.Duration, SessionError> =>
  Result.map(Result.mapError(decodeLag(row), undecodable("the age of a tombstone")), ([lag]) =>
    Duration.millis(Math.max(lag ?? 0, 0))
  )

const decodePruned = Schema.decodeUnknownResult(Schema.Tuple([Schema.Int, Schema.NullOr(Schema.String), Schema.Finite]))

/** What was pruned, up to which end, and how long it took. */
export const pruned = (row: Row | undefined) =>
  Result.map(Result.mapError(decodePruned(row), undecodable("what was pruned")), ([sessions, upTo, millis]) => ({
    sessions,
    upTo,
    took: Duration.millis(millis)
  }))

/** The ids of sessions. */
export const ids = (rows: ReadonlyArray<Row>): Effect.Effect<ReadonlyArray<SessionId>, SessionError> =>
  Effect.forEach(rows, ([id]) => Effect.fromResult(Result.mapError(decodeId(id), undecodable("the id of a session"))))
