/** The published laws of connection sources, on PostgreSQL. MariaDB's are in `test/mysql`. */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { ConnectionSource } from "../../src/connection/ConnectionSource.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgRecycle from "../../src/postgres/PgRecycle.ts"
import * as ConnectionSourceLaws from "../../src/testing/ConnectionSourceLaws.ts"
import { freshDatabase, superuserUrl } from "../support/postgres.ts"

const sourceOf = <E, R>(layer: Layer.Layer<ConnectionSource, E, R>) =>
  Effect.map(Layer.build(layer), (context) => Context.get(context, ConnectionSource))

const postgres = Layer.effect(
  ConnectionSourceLaws.World,
  Effect.gen(function* () {
    const { name, url } = yield* freshDatabase
    const witness = yield* PgConnection.make({ url: yield* superuserUrl })
    const source = yield* sourceOf(PgConnectionSource.layer({ url, recycle: PgRecycle.foreign }))
    const away = Redacted.make("postgres://nobody:secret@127.0.0.1:1/nowhere")
    return {
      source,
      connections: Effect.map(
        witness.query("select pid::text from pg_stat_activity where datname = $1 and backend_type = 'client backend'", [
          name
        ]),
        ({ rows }) => rows.map((row) => String(row["pid"]))
      ),
      kill: (id: string) => Effect.asVoid(witness.query("select pg_terminate_backend($1)", [Number(id)])),
      unreachable: yield* sourceOf(PgConnectionSource.layer({ url: away }))
    }
  })
)

ConnectionSourceLaws.run(postgres, {
  name: "PostgreSQL",
  dialect: {
    nothing: "select 1",
    id: "select pg_backend_pid()::text as id",
    sleep: "select pg_sleep(60)",
    dirt: [
      "set search_path = pg_catalog",
      "select pg_advisory_lock(42)",
      "create temporary table mine (a int)",
      "listen news",
      "declare c cursor with hold for select 1",
      "prepare mine as select 1",
      "set role pg_monitor",
      "begin",
      "select 1"
    ],
    traces: `select current_setting('search_path') as path, current_user = session_user as role,
      not exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks,
      to_regclass('pg_temp.mine') is null as tables,
      not exists (select from pg_listening_channels()) as listeners,
      not exists (select from pg_cursors where name = 'c') as cursors,
      not exists (select from pg_prepared_statements where name = 'mine') as statements`
  }
})
