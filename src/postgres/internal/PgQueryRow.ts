/**
 * What the statements of `PgQueryJournal` return, decoded; and what goes into them.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { isSqlError } from "effect/sql/SqlError"
import type { SqlError } from "effect/sql/SqlError"
import type { Statement } from "../../query/QueryDriver.ts"
import { QueriesUnavailable, QueryError, StatementFailed } from "../../query/QueryError.ts"
import type { QueryId } from "../../query/QueryId.ts"
import type * as QueryJournal from "../../query/QueryJournal.ts"
import { QueryRecord } from "../../query/QueryRecord.ts"
import * as QuerySizes from "../../query/internal/QuerySizes.ts"
import * as QueryState from "../../query/QueryState.ts"

export type Row = ReadonlyArray<unknown>

export const unavailable = (problem: string) => new QueryError({ reason: new QueriesUnavailable({ problem }) })

export const late = (limit: string) =>
  unavailable(`The database of query records gave no answer within ${limit}. Try again later.`)

const ServerError = Schema.Struct({ code: Schema.String, message: Schema.String })
const isServerError = Schema.is(ServerError)

/** Of what the server says, only the message and the code: its details hold values of the row. */
export const toQueryError = (error: SqlError | QueryError): QueryError => {
  if (!isSqlError(error)) return error
  const cause = error.reason.cause ?? error
  return unavailable(
    `The database of query records cannot be used: ${isServerError(cause) ? `${cause.message} (${cause.code})` : error.message}`
  )
}

/** Whether the server has refused a statement for what is in it: classes 21, 22, 23 and 54. */
export const isRefusal = (error: SqlError): boolean =>
  isServerError(error.reason.cause) && /^(21|22|23|54)/.test(error.reason.cause.code)

const Moment = Schema.DateTimeUtcFromMillis
const json = <S extends Schema.Top>(schema: S) => Schema.fromJsonString(schema)

const States = json(Schema.NonEmptyArray(Schema.Struct({ state: Schema.Literals(QueryState.all), at: Moment })))
const Notices = json(QueryRecord.fields.notices)
const Columns = json(Schema.Array(Schema.Struct({ name: Schema.String, type: Schema.String })))
const Reason = json(QueryError.fields.reason)

const recordColumns = [
  QueryRecord.fields.id,
  Schema.String,
  Schema.NullOr(Schema.String),
  Schema.String,
  Schema.String,
  json(Schema.String),
  Schema.Literals(QueryState.all),
  States,
  Schema.NullOr(Moment),
  Schema.NullOr(Schema.Finite),
  Schema.NullOr(Schema.Finite),
  Schema.NullOr(Notices),
  Schema.Int,
  Schema.NullOr(Schema.String)
] as const

/** How many columns a record has. */
export const width = recordColumns.length

const decodeRecord = Schema.decodeUnknownEffect(Schema.Tuple(recordColumns))
const decodeReason = Schema.decodeUnknownOption(Reason)
const encodeReason = Schema.encodeSync(QueryError.fields.reason)
const decodeRows = Schema.decodeUnknownEffect(
  Schema.Tuple([Schema.Int, Schema.NullOr(Columns), Schema.NullOr(Schema.String)])
)
const Work = Schema.Tuple([
  Schema.Int,
  json(
    Schema.Struct({
      params: Schema.Array(Schema.Json),
      settings: Schema.optionalKey(Schema.Record(Schema.String, Schema.String))
    })
  ),
  Schema.Finite,
  Schema.Finite,
  Schema.Boolean
])
const decodeWork = Schema.decodeUnknownEffect(Work)

const readable = <A, E>(decoded: Effect.Effect<A, E>) =>
  Effect.mapError(decoded, () => unavailable("The records of queries hold what this version cannot read."))

/** Decodes what a statement returns. */
export const decode = <S extends Schema.Codec<unknown, unknown>>(schema: S) => {
  const decodeRow = Schema.decodeUnknownEffect(schema)
  return (row: unknown): Effect.Effect<S["Type"], QueryError> => readable(decodeRow(row))
}

/** A newer version may know reasons that this one does not. */
const reasonOf = (text: string | null): QueryRecord["error"] => {
  if (text === null) return null
  const decoded = decodeReason(text)
  return decoded._tag === "Some"
    ? decoded.value
    : new StatementFailed({ problem: "The query failed for a reason that another version of Holdfast knows." })
}

export const recordOf = (row: Row): Effect.Effect<QueryRecord, QueryError> =>
  Effect.map(
    readable(decodeRecord(row.slice(0, width))),
    ([
      id,
      principal,
      session,
      engine,
      instance,
      sql,
      state,
      transitions,
      expiresAt,
      rowCount,
      bytes,
      notices,
      noticesDropped,
      error
    ]) => ({
      id,
      principal,
      session,
      engine,
      instance,
      sql,
      state,
      transitions,
      expiresAt,
      rowCount,
      bytes,
      notices: notices ?? [],
      noticesDropped,
      error: reasonOf(error)
    })
  )

/** A record and its rows, where it has some. */
export const knownOf = (row: Row): Effect.Effect<QueryJournal.Known, QueryError> =>
  Effect.zipWith(recordOf(row), readable(decodeRows(row.slice(width))), (record, [attempt, columns, inline]) => ({
    record,
    rows: columns === null ? undefined : { attempt, columns, inline: inline ?? undefined }
  }))

const decodePlace = Schema.decodeUnknownEffect(Schema.Tuple([Schema.Finite, Schema.Int]))

/** A listing ends early with so many bytes of JSON, but has one record at least. */
const maxListed = 4 * 1024 * 1024

/** Reads a page of a principal's queries. */
export const listed = Effect.fnUntraced(function* (
  { after, limit, state }: QueryJournal.Wanted,
  read: (sql: string, params: ReadonlyArray<unknown>) => Effect.Effect<ReadonlyArray<Row>, QueryError>,
  sql: string,
  principal: string
) {
  const rows = yield* read(sql, [principal, after ?? Number.MAX_SAFE_INTEGER, state ?? null, limit + 1, maxListed])
  const shown = rows.slice(0, limit)
  const records = yield* Effect.forEach(shown, recordOf)
  const last = shown.at(-1)
  if (last === undefined) return { records, next: undefined }
  const [place, found] = yield* readable(decodePlace(last.slice(width, width + 2)))
  return { records, next: found > shown.length ? place : undefined }
})

/** A query that is this instance's by now. */
export const adoptedOf = (row: Row, incarnation: string) =>
  Effect.zipWith(
    recordOf(row),
    readable(decodeWork(row.slice(width))),
    (record, [attempt, { params, settings }, deadlineMillis, retentionMillis, rerun]) => {
      const claim: QueryJournal.Claim = { id: record.id, incarnation, attempt }
      const statement: Statement = { sql: record.sql, params, ...(settings !== undefined && { settings }) }
      const work: QueryJournal.Work = { record, statement, deadlineMillis, retentionMillis, rerun }
      return { claim, work }
    }
  )

const statesOf = ({ transitions }: QueryRecord) =>
  JSON.stringify(transitions.map(({ at, state }) => ({ state, at: at.epochMilliseconds })))

const workOf = ({ params, settings }: Statement) =>
  JSON.stringify({ params, ...(settings !== undefined && { settings }) })

/** What a text of the database cannot hold. */
export const isStorable = (text: string): boolean => text.isWellFormed() && !text.includes("\0")

/** A query to be, as the statement takes it. One that begins at once needs its parameters no more, unless it may run again. */
export const insertOf = (query: QueryJournal.NewQuery) => {
  const { key, record, rerun, statement } = query
  return {
    id: record.id,
    principal: record.principal,
    session: record.session,
    engine: record.engine,
    sql: JSON.stringify(record.sql),
    work: record.state === "Queued" || rerun ? workOf(statement) : null,
    state: record.state,
    transitions: statesOf(record),
    rerun,
    deadline: Math.min(query.deadlineMillis, Number.MAX_SAFE_INTEGER),
    retention: Math.min(query.retentionMillis, Duration.toMillis(Duration.days(36_500))),
    size: QuerySizes.sizeOfRecord(record) + 1000,
    maxWaiting: query.maxWaitingOfPrincipal,
    ...(key !== undefined && {
      key: key.name,
      digest: key.digest,
      window: Math.min(key.windowMillis, Duration.toMillis(Duration.days(36_500))),
      maxKeys: key.maxOfPrincipal
    })
  }
}

const encodeError = (error: QueryRecord["error"]) => (error === null ? null : JSON.stringify(encodeReason(error)))

/** The JSON of an error. */
export const errorText = (reason: QueryError["reason"]): string => JSON.stringify(encodeReason(reason))

/** A change of a query, as the statement takes it. */
export const changeOf = (
  { attempt, id }: QueryJournal.Claim,
  record: QueryRecord,
  { rows, work }: { readonly rows?: QueryJournal.Rows | undefined; readonly work?: Statement | undefined } = {}
) => ({
  id,
  attempt,
  state: record.state,
  transitions: statesOf(record),
  ...(record.error !== null && { error: encodeError(record.error) }),
  ...(record.rowCount !== null && { row_count: record.rowCount }),
  ...(record.bytes !== null && { bytes: record.bytes }),
  ...(record.notices.length > 0 && { notices: JSON.stringify(record.notices) }),
  ...(record.noticesDropped > 0 && { dropped: record.noticesDropped }),
  ...(rows !== undefined && { columns: JSON.stringify(rows.columns) }),
  ...(rows?.inline !== undefined && { inline: rows.inline }),
  ...(work !== undefined && { work: workOf(work) }),
  keep: !QueryState.isTerminal(record.state),
  over: QueryState.isTerminal(record.state),
  ...(QueryState.isTerminal(record.state) && {
    size: QuerySizes.sizeOfRecord(record) + 1000 + (rows === undefined ? 0 : QuerySizes.sizeOfColumns(rows.columns)),
    expires: record.expiresAt?.epochMilliseconds
  })
})
export type ChangeOf = ReturnType<typeof changeOf>
export type InsertOf = ReturnType<typeof insertOf>
export type { QueryId }
