/**
 * Statements of a client that nothing is known of: rows are objects, and columns are the names in the first one.
 */
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import type { Statement, Summary } from "../../query/QueryDriver.ts"
import type { QueryError } from "../../query/QueryError.ts"
import type { Output } from "../SqlQueryDriver.ts"
import * as SqlErrors from "./SqlErrors.ts"
import * as SqlValues from "./SqlValues.ts"

type Values = Readonly<Record<string, unknown>>

/** Puts rows where they go; what cannot be told in JSON fails. */
const putting = (output: Output) => {
  let names: ReadonlyArray<string> | undefined
  let count = 0
  const put = (rows: ReadonlyArray<Values>): Effect.Effect<void, QueryError> =>
    Effect.suspend(() => {
      const [first] = rows
      if (first === undefined) return Effect.void
      const known = names ?? Object.keys(first)
      const describe = names === undefined ? output.columns(known.map((name) => ({ name, type: "any" }))) : Effect.void
      names = known
      count += rows.length
      const told = rows.map((row) => known.map((name) => SqlValues.toJson(row[name])))
      return Effect.andThen(describe, output.rows(told))
    })
  const done = Effect.suspend((): Effect.Effect<Summary, QueryError> => {
    const summary = { command: "", rowCount: count }
    return names === undefined ? Effect.as(output.columns([]), summary) : Effect.succeed(summary)
  })
  return { put, done }
}

/** The parameters as a client takes them. */
export const parametersOf = (
  { params }: Statement,
  placeholder: string
): Effect.Effect<ReadonlyArray<unknown>, QueryError> =>
  Effect.suspend(() => {
    const values: Array<unknown> = []
    for (const [at, param] of params.entries()) {
      const value = SqlValues.fromJson(param as Schema.Json)
      if (value instanceof SqlValues.Refused) {
        return Effect.fail(SqlErrors.failed(`The parameter ${at + 1} (${placeholder}) ${value.problem}`))
      }
      values.push(value)
    }
    return Effect.succeed(values)
  })

type Run = (
  connection: Connection,
  statement: Statement,
  output: Output
) => Effect.Effect<Summary, SqlError | QueryError>

/** Whole numbers that JavaScript does not keep, from clients that can tell them. */
const exact = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provideService(effect, SqlClient.SafeIntegers, true)

/** Rows as they come. */
export const streamed =
  (placeholder: string): Run =>
  (connection, statement, output) =>
    Effect.flatMap(parametersOf(statement, placeholder), (params) => {
      const { done, put } = putting(output)
      return Effect.andThen(
        Stream.runForEachArray(connection.executeStream(statement.sql, params, undefined), (rows) =>
          put(rows as ReadonlyArray<Values>)
        ),
        done
      )
    }).pipe(exact)

/** Rows that are handed over together. */
const slice = 256

function* slices(rows: ReadonlyArray<Values>) {
  for (let at = 0; at < rows.length; at += slice) yield rows.slice(at, at + slice)
}

/** All rows at once. */
export const whole =
  (placeholder: string): Run =>
  (connection, statement, output) =>
    Effect.flatMap(parametersOf(statement, placeholder), (params) => {
      const { done, put } = putting(output)
      return Effect.flatMap(connection.execute(statement.sql, params, undefined), (rows) =>
        Effect.andThen(Effect.forEach(slices(rows as ReadonlyArray<Values>), put, { discard: true }), done)
      )
    }).pipe(exact)
