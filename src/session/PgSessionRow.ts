/**
 * Reads what the statements of `PgSessionStore` answer. A row that cannot be read is that row's failure and nobody else's.
 */
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
  SessionUndecodable
} from "./SessionError.ts"
import { SessionId } from "./SessionId.ts"
import { Device, SessionRecord } from "./SessionRecord.ts"

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
const State = Schema.Literals(["missing", "expired", "revoked", "live"])
const decodeState = Schema.decodeUnknownResult(State)
const decodeOwed = Schema.decodeUnknownResult(Schema.Boolean)
const decodeId = Schema.decodeUnknownResult(SessionId)
const describeIssue = SchemaIssue.makeFormatterStandardSchemaV1()

/** Says where a row is wrong and not what it holds there, which is somebody's data. */
const undecodable = (what: string) => (error: Schema.SchemaError) => {
  const places = describeIssue(error.issue).issues.map(({ path }) => path?.map(String).join(".") ?? "")
  const problem = `${what} has an unexpected ${places.filter((place) => place !== "").join(", ") || "value"}`
  return new SessionError({ reason: new SessionUndecodable({ problem }) })
}

/** A session, from the columns that begin at `from`. */
export const record = (row: Row, from = 0): Result.Result<SessionRecord, SessionError> =>
  Result.mapError(
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
      renewalNonce: null
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
    case "live":
      return new SessionError({ reason: new SessionConflict() })
  }
}

/** What a load found: the session, and whether its activity is still to be written. */
export const loaded = (
  row: Row | undefined
): Result.Result<{ readonly record: SessionRecord; readonly owed: boolean }, SessionError> => {
  if (row === undefined || row[0] !== "live") return Result.fail(standing(row))
  return Result.gen(function* () {
    const owed = yield* Result.mapError(decodeOwed(row[1]), undecodable("the state of a session"))
    return { record: yield* record(row, 2), owed }
  })
}

/** The ids of sessions. */
export const ids = (rows: ReadonlyArray<Row>): Effect.Effect<ReadonlyArray<SessionId>, SessionError> =>
  Effect.forEach(rows, ([id]) => Effect.fromResult(Result.mapError(decodeId(id), undecodable("the id of a session"))))
