/**
 * What an engine implements to run statements: open a connection in a scope, execute on it.
 *
 * A connection lives as long as the scope that it was opened in. `execute` is over when the server is done with the
 * statement: interrupting it cancels at the server and waits until the server has said what became of it.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Exit from "effect/Exit"
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { QueryCapabilities } from "./QueryCapabilities.ts"
import type { QueryError, Written } from "./QueryError.ts"
import type { QueryId } from "./QueryId.ts"
import type { Notice } from "./QueryRecord.ts"

/** A statement with its parameters, positional as the engine writes them (`$1` in PostgreSQL). */
export interface Statement {
  readonly sql: string
  readonly params: ReadonlyArray<Schema.Json>
  /**
   * Settings of the engine's for this statement alone, such as `default_transaction_read_only`: the operator's or the app's
   * choice for a principal. The statement does not run where one is refused. Default: none.
   */
  readonly settings?: Readonly<Record<string, string>> | undefined
}

/** What the engine may tell its operators, and hold to when we are gone. */
export interface Execution {
  /** The query's public id. Nothing is decided by it: the statement can forge it. */
  readonly id: QueryId
  /** When the engine itself should end the statement. */
  readonly deadline?: Duration.Duration | undefined
  /**
   * To be called when the server has said that the statement is done, also when it is being interrupted at that moment: then
   * the query has succeeded although it was cancelled, or failed where not all rows that it wrote could be added. Must come
   * last.
   */
  readonly onDone: (outcome: Exit.Exit<Summary, QueryError>) => void
  /**
   * To be called, before it is over, when the statement was interrupted and may have written something all the same: the
   * server had finished it and nobody has its rows, or did not say what became of it.
   */
  readonly onGivenUp: (written: Written) => void
  /**
   * To be called with a handle by which {@link Elsewhere} of the driver ends the statement: before the statement is sent, and
   * again where the server calls it something else. Where the first call fails, the statement must not be sent. Default: nobody
   * notes it.
   */
  readonly onHandle?: ((handle: string) => Effect.Effect<void, QueryError>) | undefined
  /** To be called with what the engine remarks while the statement runs. Default: nobody hears of it. */
  readonly onNotice?: ((notice: Notice) => void) | undefined
}

/** A column of a result; `type` is the engine's name for it. */
export interface Column {
  readonly name: string
  readonly type: string
}

/**
 * A row: one value per column, in JSON. Integers beyond 32 bits and decimals are strings, timestamps ISO 8601, bytes
 * base64. Sent back as a parameter of the column's type, it is the same value.
 */
export type Row = ReadonlyArray<Schema.Json>

/** Where the rows of a running statement go. The statement waits for it: that is the back pressure. */
export interface RowSink {
  /**
   * Called before the first rows, also when there are none; and once more, after the last ones, where the name of a type had to
   * be looked up.
   */
  readonly columns: (columns: ReadonlyArray<Column>) => Effect.Effect<void, QueryError>
  readonly rows: (rows: ReadonlyArray<Row>) => Effect.Effect<void, QueryError>
  /**
   * Takes one row as the pieces of its JSON text in UTF-8, which has no line break in it. A piece is made when it is taken, in a
   * millisecond or two; an empty one says that the work may be cut there. For rows that are too large to be decoded at
   * once. Default: a driver decodes them.
   */
  readonly text?: ((pieces: Iterator<Uint8Array, void>) => Effect.Effect<void, QueryError>) | undefined
}

/** What the server said when it was done. */
export interface Summary {
  /** Such as `SELECT` or `INSERT`. */
  readonly command: string
  /** Rows returned or affected. */
  readonly rowCount: number
}

/** An open connection to the engine. One statement at a time; what one leaves behind, the next need not find. */
export interface QueryConnection {
  readonly id: string
  readonly execute: (statement: Statement, sink: RowSink, execution: Execution) => Effect.Effect<Summary, QueryError>
}

/**
 * Ends at an engine what an instance of the program has left there that is gone. Its handles were noted before they were used, by
 * `onHandle` or by the engine's own means; it is asked again until nothing is left, also by several instances at once.
 */
export interface Elsewhere {
  /**
   * Ends what has these handles, and returns how many of them are there still, or may come yet. Interrupted, it goes on with
   * nothing.
   */
  readonly end: (handles: ReadonlyArray<string>) => Effect.Effect<number, unknown>
  /** Which right is missing to do so, in words for the operator. Fails where the engine cannot be asked. Default: none is. */
  readonly missing?: Effect.Effect<string | undefined, unknown> | undefined
}

/**
 * On whose behalf a connection is opened: a registry sets it around `open`, for drivers that give principals roles of their own.
 * Default: nobody's in particular.
 */
export const Principal = Context.Reference<string | undefined>("holdfast/query/QueryDriver/Principal", {
  defaultValue: () => undefined
})

export class QueryDriver extends Context.Service<
  QueryDriver,
  {
    readonly open: Effect.Effect<QueryConnection, QueryError, Scope.Scope>
    /** What the engine can do. Default: nobody said. */
    readonly capabilities?: QueryCapabilities | undefined
    /** Ends statements by the handles that `onHandle` was called with. Default: nothing can. */
    readonly elsewhere?: Elsewhere | undefined
  }
>()("holdfast/query/QueryDriver") {}
