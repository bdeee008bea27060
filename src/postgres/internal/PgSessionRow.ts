/**
 * Reads what the statements of `PgSessionStore` answer. A row that cannot be read is that row's failure and nobody else's.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import type { SessionError } from "../../session/SessionError.ts"
import { SessionId } from "../../session/SessionId.ts"
import type { SessionRecord } from "../../session/SessionRecord.ts"
import { type Open, record, type Row, standing, undecodable, unexpected } from "../../session/internal/SessionRow.ts"
import type { Login } from "../../session/SessionStore.ts"

export { type Open, record, type Row, standing }

const decodeId = Schema.decodeUnknownResult(SessionId)
const decodeIds = Schema.decodeUnknownResult(Schema.fromJsonString(Schema.Array(SessionId)))

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
  row: Row | undefined,
  open: Open
): Result.Result<{ readonly record: SessionRecord; readonly owed: boolean }, SessionError> => {
  const owed = touched(row)
  if (Result.isFailure(owed)) return Result.fail(owed.failure)
  return Result.map(record(row ?? [], open, 2), (record) => ({ record, owed: owed.success }))
}

/** What to remember of a row that was found, and how many bytes its data and device take; nothing without a stamp. */
export const remembered = (
  row: Row,
  record: SessionRecord
): { readonly stamp: string; readonly bytes: number } | undefined => {
  const [data, device, stamp] = [row[4], row[7], row[14]]
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
export const login = (row: Row | undefined, open: Open): Result.Result<Login, SessionError> => {
  if (row === undefined) return Result.fail(standing(row))
  return Result.gen(function* () {
    const displaced = yield* Result.mapError(decodeIds(row[12]), undecodable("a list of displaced sessions"))
    return { record: yield* record(row, open), displaced }
  })
}

const decodePage = Schema.decodeUnknownResult(
  Schema.Tuple([Schema.Boolean, Schema.NullOr(Schema.String), Schema.NullOr(SessionId)])
)

/** Where a page of visitors ends, and whether the row holds a session behind that. */
export const visitorPage = (row: Row | undefined) =>
  Result.map(
    Result.mapError(decodePage(row?.slice(0, 3)), undecodable("a page of sessions")),
    ([isFull, last, id]) => ({ next: isFull && last !== null ? last : undefined, hasSession: id !== null })
  )

const decodeEpoch = Schema.decodeUnknownResult(Schema.Tuple([Schema.Finite]))

/** The epoch of a principal; zero when nothing is known of it. */
export const epoch = (row: Row | undefined): Result.Result<number, SessionError> =>
  row === undefined
    ? Result.succeed(0)
    : Result.map(Result.mapError(decodeEpoch(row), undecodable("the epoch of a principal")), ([epoch]) => epoch)

const decodeMoment = Schema.decodeUnknownResult(Schema.Tuple([Schema.DateTimeUtcFromDate]))

/** A moment by the server's clock. */
export const moment = (row: Row | undefined) =>
  Result.map(Result.mapError(decodeMoment(row), undecodable("the time of the server")), ([moment]) => moment)

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

/** The sessions of a list, whose columns begin at `from`. One that cannot be read is left out and logged. */
export const readable = Effect.fnUntraced(function* (rows: ReadonlyArray<Row>, open: Open, from = 0) {
  const records: Array<SessionRecord> = []
  for (const row of rows) {
    const read = record(row, open, from)
    if (Result.isSuccess(read)) records.push(read.success)
    else
      yield* LogEvent.warning({ event: "session.unlisted" }, "A session was left out of a list", read.failure.message)
  }
  return records
})

/** The ids of sessions. */
export const ids = (rows: ReadonlyArray<Row>): Effect.Effect<ReadonlyArray<SessionId>, SessionError> =>
  Effect.forEach(rows, ([id]) => Effect.fromResult(Result.mapError(decodeId(id), undecodable("the id of a session"))))
