/**
 * What the SQL API v2 answers, as far as it matters here: Snowflake's own description of the API says the rest.
 *
 * A statement that runs is 202, one that succeeded 200 and one that failed 422. Anything else is about the call and says nothing
 * about the statement.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as SnowflakeBody from "./SnowflakeBody.ts"

/** A handle goes into URLs: nothing in it may mean something there. */
export const Handle = Schema.String.check(Schema.isPattern(/^[0-9A-Za-z-]{8,64}$/))

const Status = Schema.Struct({
  code: Schema.optionalKey(Schema.NullOr(Schema.String)),
  sqlState: Schema.optionalKey(Schema.NullOr(Schema.String)),
  message: Schema.optionalKey(Schema.NullOr(Schema.String)),
  statementHandle: Schema.optionalKey(Schema.NullOr(Handle))
})
export type Status = typeof Status.Type

const Count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const size = Schema.optionalKey(Schema.NullOr(Schema.Int))

const ResultSet = Schema.Struct({
  statementHandle: Schema.optionalKey(Schema.NullOr(Handle)),
  resultSetMetaData: Schema.Struct({
    numRows: Count,
    rowType: Schema.Array(Schema.Struct({ name: Schema.String, type: Schema.String, precision: size, scale: size })),
    partitionInfo: Schema.optionalKey(Schema.Array(Schema.Struct({ rowCount: Count, uncompressedSize: size })))
  }),
  stats: Schema.optionalKey(
    Schema.NullOr(Schema.Struct({ numRowsInserted: size, numRowsUpdated: size, numRowsDeleted: size }))
  )
})
export type ResultSet = typeof ResultSet.Type

/** The statement succeeded, and here are its first rows. */
export interface Finished {
  readonly _tag: "Finished"
  readonly result: ResultSet
  readonly body: SnowflakeBody.Body
}

/** The server ended it, or would not begin it. */
export interface Failed {
  readonly _tag: "Failed"
  readonly status: Status
}

/** What the server says about a statement when it is over. `Gone`: it knows of none. */
export type End = Finished | Failed | { readonly _tag: "Gone" }

export type Answer = End | { readonly _tag: "Pending"; readonly handle: string | undefined }

const decodeStatus = Schema.decodeUnknownOption(Schema.fromJsonString(Status))
const decodeResult = Schema.decodeUnknownOption(Schema.fromJsonString(ResultSet))

/** What the body of an answer says besides its status code; nothing where it is no JSON of Snowflake's. */
export const statusOf = (text: string): Status => Option.getOrElse(decodeStatus(text), (): Status => ({}))

export const resultOf = (text: string): ResultSet | undefined => Option.getOrUndefined(decodeResult(text))

/** The statement was cancelled, by whom ever, or by its timeout. */
export const canceled: ReadonlySet<string> = new Set(["000604", "604", "000630", "630"])

/** `Asynchronous execution in progress`, which also comes with a 429. */
export const inProgress: ReadonlySet<string> = new Set(["333333", "333334"])
