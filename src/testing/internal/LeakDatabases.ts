/** What a PostgreSQL database holds: who is connected to it, and how many rows its tables have. */
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { inRealTime } from "../../embedded/Postmaster.ts"
import * as PgDirect from "../../postgres/internal/PgDirect.ts"
import * as PgTarget from "../../postgres/internal/PgTarget.ts"

/** Somebody who is connected. */
export interface Backend {
  readonly pid: number
  readonly application: string
  readonly state: string
  readonly statement: string
  /** The port of the client, where it is on this machine or another. */
  readonly port: number | null
}

export interface Holdings {
  readonly database: string
  readonly backends: ReadonlyMap<number, Backend>
  readonly rows: ReadonlyMap<string, number>
}

const Backends = Schema.Array(
  Schema.Tuple([Schema.Int, Schema.String, Schema.String, Schema.String, Schema.NullOr(Schema.Int)])
)
const Tables = Schema.Array(Schema.Tuple([Schema.String, Schema.String]))
const Counts = Schema.Array(Schema.Tuple([Schema.Union([Schema.String, Schema.Int, Schema.BigInt])]))

/** How its own connections are called; one that was closed may be on its way out. */
const own = "holdfast-leak-check"

const connected = `select pid, coalesce(application_name, ''), coalesce(state, ''), pg_catalog.left(query, 200), client_port
  from pg_catalog.pg_stat_activity
  where datname = pg_catalog.current_database() and backend_type = 'client backend' and application_name <> '${own}'`

const tables = `select pg_catalog.format('%I.%I', n.nspname, c.relname), n.nspname || '.' || c.relname
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'information_schema') order by 2`

/** Looks at a database. */
export const look = Effect.fnUntraced(
  function* (url: Redacted.Redacted<string>) {
    const { config, database } = PgTarget.of(url)
    const connection = yield* PgDirect.connect({ ...config, applicationName: own })
    const query = <A, E>(sql: string, schema: Schema.Codec<A, E>) =>
      Effect.flatMap(connection.queryValues(sql, [], false), (rows) =>
        Effect.orDie(Schema.decodeUnknownEffect(schema)(rows))
      )
    const backends = yield* query(connected, Backends)
    const names = yield* query(tables, Tables)
    const counts =
      names.length === 0
        ? []
        : yield* query(names.map(([name]) => `select count(*)::int from ${name}`).join(" union all "), Counts)
    return {
      database,
      backends: new Map(
        backends.map(([pid, application, state, statement, port]) => [
          pid,
          { pid, application, state, statement, port }
        ])
      ),
      rows: new Map(names.map(([, name], index) => [name, Number(counts[index]?.[0] ?? 0)]))
    } satisfies Holdings
  },
  Effect.scoped,
  inRealTime
)
