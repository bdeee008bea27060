/**
 * What a returned PostgreSQL connection goes through before the next borrower gets it.
 *
 * A recipe is a list of named steps that travel in one round trip. Recipes are combined with {@link and}. The cost of each
 * is measured by `npm run bench`. Rows of a step that is no `generator` are ignored.
 *
 * **Gotchas**
 *
 * `DISCARD ALL` and `DEALLOCATE ALL` drop the driver's own prepared statements, so that its next transaction fails with
 * `26000` and the one after with `25P02`: they are for connections that prepare nothing ({@link foreign}).
 *
 * Install `@effect/sql-pg` beside Holdfast.
 */
import { Buffer } from "node:buffer"
import * as PgFrames from "./internal/PgFrames.ts"
import type * as PgWire from "./internal/PgWire.ts"

/** One thing that is reset. */
export interface Step {
  readonly name: string
  readonly sql: string
  /**
   * `together` with its neighbours, in one implicit transaction; `alone`, for what PostgreSQL refuses in one; or a
   * `generator`: a query, prepared once for a connection, whose rows are statements that are sent next. Default: `together`.
   */
  readonly kind?: "together" | "alone" | "generator" | undefined
  /** What is sent instead of `sql`: the same, as a cheaper message of the protocol, which is answered like `alone`. */
  readonly message?: Uint8Array | undefined
}

export interface Recipe {
  readonly steps: ReadonlyArray<Step>
  /** Whether connections may keep prepared statements of the driver's. */
  readonly prepare: boolean
}

/** Ends a transaction that was left open. Needed by every other step. */
export const transaction: Recipe = { prepare: true, steps: [{ name: "transaction", sql: "ROLLBACK" }] }

/** Settings, role and user as they were when the connection was opened. */
export const settings: Recipe = {
  prepare: true,
  steps: [
    { name: "user", sql: "RESET SESSION AUTHORIZATION" },
    { name: "settings", sql: "RESET ALL" }
  ]
}

/** Holdable cursors, listeners, temporary tables, the memory of sequences, and advisory locks. */
export const objects: Recipe = {
  prepare: true,
  steps: [
    { name: "cursors", sql: "CLOSE ALL" },
    { name: "listeners", sql: "UNLISTEN *" },
    { name: "temporary tables", sql: "DISCARD TEMP" },
    { name: "sequences", sql: "DISCARD SEQUENCES" },
    // The id is the same in every version (pg_proc.dat); a SELECT would be planned anew each time.
    { name: "advisory locks", sql: "SELECT pg_catalog.pg_advisory_unlock_all()", message: PgFrames.call(2892) }
  ]
}

/** Statements prepared with SQL `PREPARE`; the driver's own are prepared by protocol and stay. */
export const prepared: Recipe = {
  prepare: true,
  steps: [
    {
      name: "prepared statements",
      sql: "SELECT pg_catalog.format('DEALLOCATE %I', name) FROM pg_catalog.pg_prepared_statement() WHERE from_sql",
      kind: "generator"
    }
  ]
}

/** One recipe after another. */
export const and = (...recipes: ReadonlyArray<Recipe>): Recipe => ({
  prepare: recipes.every(({ prepare }) => prepare),
  steps: recipes.flatMap(({ steps }) => steps)
})

/** Nothing. For borrowers that leave nothing behind, such as those of single statements. */
export const none: Recipe = { prepare: true, steps: [] }

/** Everything a borrower's own SQL can leave behind. The default. */
export const complete: Recipe = and(transaction, settings, objects, prepared)

/** For pools on which somebody else's SQL runs, who may have sent `DEALLOCATE ALL` himself: nothing is ever prepared. */
export const foreign: Recipe = {
  prepare: false,
  steps: [...transaction.steps, { name: "everything", sql: "DISCARD ALL", kind: "alone" }]
}

/** A recipe of one's own. */
export const custom = (steps: ReadonlyArray<Step>, options?: { readonly prepare?: boolean | undefined }): Recipe => ({
  steps,
  prepare: options?.prepare ?? true
})

/** A recipe as it is sent: everything at once, so that it costs one round trip. */
export interface Compiled extends PgWire.Messages {
  /** In which of them rows are statements to send next. */
  readonly generators: ReadonlyArray<number>
}

const compileSteps = (steps: ReadonlyArray<Step>): Compiled => {
  const messages: Array<Uint8Array> = []
  const generators: Array<number> = []
  let cycles = 0
  let together: Array<string> = []
  const flush = () => {
    if (together.length > 0) add(PgFrames.query(together.join(";")))
    together = []
  }
  const add = (...frames: ReadonlyArray<Uint8Array>) => {
    messages.push(...frames)
    cycles++
  }
  for (const { kind, message, name, sql } of steps) {
    if (message === undefined && (kind ?? "together") === "together") {
      together.push(sql)
      continue
    }
    flush()
    if (message !== undefined) add(message)
    else if (kind === "alone") add(PgFrames.query(sql))
    else {
      generators.push(cycles)
      add(PgFrames.execute(preparedName(name)), PgFrames.sync)
    }
  }
  flush()
  return { messages: Buffer.concat(messages), cycles, generators }
}

const preparedName = (step: string) => `holdfast ${step}`

/** What is sent to a connection: once to prepare it, and whenever it comes back. */
export const compile = ({ steps }: Recipe): Record<"prepare" | "reset" | "outsideTransaction", Compiled> => {
  const generators = steps.filter(({ kind }) => kind === "generator")
  return {
    /** Prepares the generators. */
    prepare: {
      messages: Buffer.concat(
        generators.flatMap(({ name, sql }) => [PgFrames.parse(preparedName(name), sql), PgFrames.sync])
      ),
      cycles: generators.length,
      generators: []
    },
    reset: compileSteps(steps),
    /** Where the server has said that no transaction is open, there is none to end. */
    outsideTransaction: compileSteps(steps.filter((step) => !transaction.steps.includes(step)))
  }
}
