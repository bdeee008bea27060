/**
 * How many sessions of a `PgSessionStore` live, at a cost that has a bound.
 *
 * **Details**
 *
 * A table of up to {@link most} blocks is read whole, and the count is exact. Of a larger one so many blocks are read, which the
 * server chooses by chance, and the rest is taken to be like them (`TABLESAMPLE SYSTEM`).
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { isLive } from "./PgSessionSqlParts.ts"

/** Sixteen megabytes, which are some fifty thousand sessions. */
const most = 2000

const Blocks = Schema.Array(Schema.Struct({ blocks: Schema.Finite }))
const Live = Schema.Array(Schema.Struct({ live: Schema.Finite }))

/** Those of a schema, by the server's clock, over the client in context. At most `blocks` are read. */
export const read = Effect.fnUntraced(function* (schema = "holdfast", blocks = most) {
  const sql = yield* SqlClient.SqlClient
  const table = `${schema}.sessions`
  const sizes = yield* sql
    .unsafe("select pg_relation_size($1::regclass)::float8 / current_setting('block_size')::float8 as blocks", [table])
    .pipe(Effect.flatMap(Schema.decodeUnknownEffect(Blocks)))
  const share = Math.min(1, blocks / Math.max(sizes[0]?.blocks ?? 0, 1))
  const counts = yield* sql
    .unsafe(
      `select count(*)::float8 as live from ${table} s tablesample system ($1::float8) where ${isLive("s", "now()")}`,
      [share * 100]
    )
    .pipe(Effect.flatMap(Schema.decodeUnknownEffect(Live)))
  return Math.round((counts[0]?.live ?? 0) / share)
})
