/**
 * What the SQL view is about. It is kept in the browser: a reload loses nothing.
 */
import * as Queries from "../api/queries.ts"
import * as Store from "../app/store.ts"
import type { Statement } from "../sql/statements.ts"

const first = `-- Ctrl+Enter runs the statement at the cursor.
select n, n * n as square, 'row ' || n as name
from generate_series(1, 100) as n;
`

export const text = Store.kept("sql", first, Store.anyText)
export const params = Store.kept("sql params", "", Store.anyText)
export const deadline = Store.kept("sql deadline", "none", Store.anyText)
/** Empty for the first one. */
export const engine = Store.kept("sql engine", "", Store.anyText)
/** The id of the query whose result is shown. */
export const shown = Store.kept("sql shown", "", Store.anyText)
/** The statement that it ran, as it stood in the text. */
export const ran = Store.make<Statement | null>(null)

export type Engine = Awaited<ReturnType<typeof Queries.engines>>[number]
export const engines = Store.make<ReadonlyArray<Engine>>([])

/** Asks which engines there are. */
export const loadEngines = async (): Promise<void> => engines.set(await Queries.engines())
