/**
 * What a returned PostgreSQL connection goes through before the next borrower gets it.
 *
 * A recipe is a list of named steps that travel in one round trip, each with the reason why it is there. Recipes are combined
 * with {@link and}. The cost of each is measured by `npm run bench`.
 *
 * **Gotchas**
 *
 * `DISCARD ALL` and `DEALLOCATE ALL` drop the driver's own prepared statements, so that its next transaction fails with
 * `26000` and the one after with `25P02`: they are for connections that prepare nothing ({@link foreign}).
 */

/** One thing that is reset. */
export interface Step {
  readonly name: string
  readonly sql: string
  /** Sent as a statement of its own. Default: false, all other steps travel together in one block. */
  readonly alone?: boolean | undefined
}

export interface Recipe {
  readonly steps: ReadonlyArray<Step>
  /** Whether connections may keep prepared statements of the driver's. */
  readonly prepare: boolean
}

const step = (name: string, sql: string): Step => ({ name, sql })
const alone = (name: string, sql: string): Step => ({ name, sql, alone: true })

/** Ends a transaction that was left open. Needed by every other step. */
export const transaction: Recipe = { prepare: true, steps: [alone("transaction", "ROLLBACK")] }

/** Settings, role and user as they were when the connection was opened. */
export const settings: Recipe = {
  prepare: true,
  steps: [step("user", "RESET SESSION AUTHORIZATION"), step("settings", "RESET ALL")]
}

/** Holdable cursors, listeners, advisory locks, temporary tables and the memory of sequences. */
export const objects: Recipe = {
  prepare: true,
  steps: [
    step("cursors", "EXECUTE 'CLOSE ALL'"),
    step("listeners", "UNLISTEN *"),
    step("advisory locks", "PERFORM pg_advisory_unlock_all()"),
    step("temporary tables", "DISCARD TEMP"),
    step("sequences", "DISCARD SEQUENCES")
  ]
}

/** Statements prepared with SQL `PREPARE`; the driver's own are prepared by protocol and stay. */
export const prepared: Recipe = {
  prepare: true,
  steps: [
    step(
      "prepared statements",
      "FOR name IN SELECT s.name FROM pg_prepared_statements s WHERE s.from_sql LOOP EXECUTE format('DEALLOCATE %I', name); END LOOP"
    )
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
  steps: [...transaction.steps, alone("everything", "DISCARD ALL")]
}

/** A recipe of one's own. */
export const custom = (steps: ReadonlyArray<Step>, options?: { readonly prepare?: boolean | undefined }): Recipe => ({
  steps,
  prepare: options?.prepare ?? true
})

/**
 * The statements to send, all at once: a block costs far less than each of its steps on its own. Where the server has said
 * that no transaction is open, there is none to end.
 */
export const compile = (
  { steps: all }: Recipe,
  options?: { readonly outsideTransaction?: boolean | undefined }
): ReadonlyArray<string> => {
  const steps = options?.outsideTransaction === true ? all.filter((step) => !transaction.steps.includes(step)) : all
  const together = steps.filter(({ alone }) => alone !== true).map(({ sql }) => `${sql};`)
  const single = steps.filter(({ alone }) => alone === true).map(({ sql }) => sql)
  return together.length === 0 ? single : [...single, `DO $$ DECLARE name text; BEGIN ${together.join(" ")} END $$`]
}
