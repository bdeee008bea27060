/** How a law tries a driver: what a statement told, and a registry over the driver. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import {
  type Column,
  type Execution,
  QueryDriver,
  type Row,
  type RowSink,
  type Statement,
  type Summary
} from "../../query/QueryDriver.ts"
import type { QueryError, Written } from "../../query/QueryError.ts"
import * as QueryId from "../../query/QueryId.ts"
import type { Notice } from "../../query/QueryRecord.ts"
import * as QueryRegistry from "../../query/QueryRegistry.ts"
import * as QueryResults from "../../query/QueryResults.ts"
import * as InterruptSweep from "../InterruptSweep.ts"
import type { Law } from "./Laws.ts"

/** How the engine's SQL says it. */
export interface Dialect {
  /** So many rows: a number from 1 on, and its text with `row ` in front. */
  readonly numbers: (count: number) => string
  /** The same, beginning with the first row at once, for as many seconds. None: rows are there when the statement is over. */
  readonly trickle?: (count: number, seconds: number) => string
  /** The number of a row as it is in JSON. */
  readonly number: (value: number) => Schema.Json
  readonly sleep: (seconds: number) => string
  /** Makes a table `written` with a column `n`. */
  readonly table: string
  /** Inserts a number, after so many seconds. */
  readonly insert: (value: number, seconds: number) => string
  /** Every number in `written`, in order. */
  readonly written: string
  /** What the engine says of a table that is not there. */
  readonly missing: { readonly sql: string; readonly code: string }
  /** Expressions of the engine's types, their values in JSON, and how each is sent back: an expression and a parameter for it. */
  readonly values: ReadonlyArray<{
    readonly sql: string
    readonly json: Schema.Json
    readonly back: { readonly sql: string; readonly param: Schema.Json }
  }>
  /** A setting, a statement that shows it, and a setting that there is not. */
  readonly setting?: { readonly name: string; readonly value: string; readonly shown: string; readonly unknown: string }
  readonly notice?: string
  /** What the server says of a statement that it has ended by itself. None: the driver's own test says it. */
  readonly late?: string
}

/** What not every engine has. */
export type Need = "cancels" | "deadlines" | "columnTypes" | "notices" | "rowsWhileRunning" | "settings" | "streams"

/** Where a law is tried. */
export interface World {
  readonly driver: QueryDriver["Service"]
  /** Statements that the server has not finished. */
  readonly running: Effect.Effect<number, unknown>
}

/** A law that is tried on a driver. */
export const law = (
  name: string,
  needs: ReadonlyArray<Need>,
  trial: (world: World) => Effect.Effect<unknown, unknown, Scope.Scope>
): Law<World, Need> => ({ name, needs, trial })

/** What a statement told, in order. */
export interface Told {
  readonly columns: ReadonlyArray<Column>
  readonly rows: ReadonlyArray<Row>
  readonly events: ReadonlyArray<string>
  readonly outcomes: ReadonlyArray<Exit.Exit<Summary, QueryError>>
  readonly givenUp: ReadonlyArray<Written>
  readonly notices: ReadonlyArray<Notice>
  /** How often rows came before the last ones were taken. */
  readonly overlaps: number
  readonly exit: Exit.Exit<Summary, QueryError>
}

export const recorder = (take: (rows: ReadonlyArray<Row>) => Effect.Effect<void, QueryError> = () => Effect.void) => {
  const told = {
    columns: [] as ReadonlyArray<Column>,
    rows: [] as Array<Row>,
    events: [] as Array<string>,
    outcomes: [] as Array<Exit.Exit<Summary, QueryError>>,
    givenUp: [] as Array<Written>,
    notices: [] as Array<Notice>,
    overlaps: 0
  }
  let isTaking = false
  const sink: RowSink = {
    columns: (columns) =>
      Effect.sync(() => {
        told.events.push("columns")
        told.columns = columns
      }),
    rows: (rows) =>
      Effect.suspend(() => {
        // Said at the end: a driver may lose what its own fiber dies of.
        if (isTaking) told.overlaps++
        isTaking = true
        told.events.push("rows")
        return Effect.map(take(rows), () => {
          isTaking = false
          told.rows.push(...rows)
        })
      })
  }
  const execution = (more: Partial<Execution> = {}): Execution => ({
    id: QueryId.make(),
    onDone: (outcome) => {
      told.events.push("done")
      told.outcomes.push(outcome)
    },
    onGivenUp: (written) => void told.givenUp.push(written),
    onNotice: (notice) => void told.notices.push(notice),
    ...more
  })
  return { told, sink, execution }
}

export const statementOf = (sql: string | Statement): Statement => (typeof sql === "string" ? { sql, params: [] } : sql)

export const run = (
  driver: QueryDriver["Service"],
  sql: string | Statement,
  options: {
    readonly take?: (rows: ReadonlyArray<Row>) => Effect.Effect<void, QueryError>
    readonly execution?: Partial<Execution>
  } = {}
): Effect.Effect<Told> => {
  const { execution, sink, told } = recorder(options.take)
  return Effect.scoped(
    Effect.flatMap(driver.open, (connection) =>
      connection.execute(statementOf(sql), sink, execution(options.execution))
    )
  ).pipe(
    Effect.exit,
    Effect.map((exit) => {
      assert.strictEqual(told.overlaps, 0, "rows came before the last ones were taken")
      return { ...told, exit }
    })
  )
}

export const succeeded = (told: Told): Summary => {
  if (Exit.isFailure(told.exit)) return assert.fail(String(told.exit.cause))
  return told.exit.value
}

export const reasonOf = ({ exit }: Pick<Told, "exit">): QueryError["reason"] => {
  const error = Exit.findErrorOption(exit)
  return Option.isSome(error) ? error.value.reason : assert.fail(`no error: ${String(exit)}`)
}

export const principal = "alice"

/** A registry of its own over the driver, for the current scope. */
export const registryOf = ({ driver }: World, options: QueryRegistry.Options = {}) =>
  QueryRegistry.make(options).pipe(
    Effect.provideService(QueryDriver, driver),
    Effect.provide(QueryResults.layerMemory({ limitBytes: 100_000 }))
  )

export const submitted = Effect.fnUntraced(function* (
  registry: QueryRegistry.QueryRegistry["Service"],
  sql: string,
  more: Partial<QueryRegistry.Submission> = {}
) {
  const { id } = yield* registry.submit({ statement: { sql, params: [] }, principal, ...more })
  return id
})

/** How often statements race with their cancels. */
export const races = 50 * Math.min(InterruptSweep.scale, 20)
