/**
 * The tables and columns of an engine, for completion. They are asked for once for each engine, with a query of the user's own.
 */
import { feed } from "../api/feed.ts"
import { json, submit } from "../api/queries.ts"

/** Columns by table, and by schema and table. */
export type Catalogue = Readonly<Record<string, ReadonlyArray<string>>>

/** The first words of the query, by which the list of queries leaves it out. */
export const comment = "/* console: catalogue */"

const statement = `${comment} select table_schema, table_name, column_name from information_schema.columns
where table_schema not in ('pg_catalog', 'information_schema', 'mysql', 'performance_schema', 'sys')
order by table_schema, table_name, ordinal_position limit 10000`

const known = new Map<string, Promise<Catalogue>>()

const ask = async (engine: string): Promise<Catalogue> => {
  const { id } = await submit({ sql: statement, engine, timeoutMs: 10_000 })
  const { state } = await feed.outcome(id)
  if (state !== "Succeeded") return {}
  const { rows } = (await (await json(`/queries/${id}/rows?limit=10000`)).json()) as {
    readonly rows: ReadonlyArray<readonly [string, string, string]>
  }
  const found: Record<string, Array<string>> = {}
  for (const [schema, table, column] of rows) {
    for (const name of [table, `${schema}.${table}`]) (found[name] ??= []).push(column)
  }
  return found
}

/** None where they cannot be read: completion is a convenience. */
export const of = (engine: string, kind: string): Promise<Catalogue> => {
  if (kind !== "postgres" && kind !== "mysql") return Promise.resolve({})
  let asked = known.get(engine)
  if (asked === undefined) known.set(engine, (asked = ask(engine).catch(() => ({}))))
  return asked
}
