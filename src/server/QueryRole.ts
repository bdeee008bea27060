/**
 * Whether users' SQL may run as a role: not as one that stands above the rules of the database.
 *
 * Such a role reads every row and every table, and as a superuser, or a member of `pg_execute_server_program`, its SQL starts
 * programs on the server (`copy … to program`). With replication it may copy the whole server. PostgreSQL, "Role Attributes" and "Predefined Roles".
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlSchema from "effect/sql/SqlSchema"

/**
 * What the role that logged in is, or may become, that no user's SQL should be. Names are written out: a role can have put
 * others of the same name first on its search path.
 */
const powers = `
  select case when r.rolsuper then 'a superuser'
    when r.rolbypassrls then 'a role with BYPASSRLS'
    when r.rolreplication then 'a role with REPLICATION'
    else 'a member of ' operator(pg_catalog.||) r.rolname::pg_catalog.text end as power
  from pg_catalog.pg_roles r
  where (r.rolsuper or r.rolbypassrls or r.rolreplication or r.rolname operator(pg_catalog.=) any (
      array['pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files']::pg_catalog.name[]))
    and pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER')
  order by r.rolsuper desc, r.rolbypassrls desc, r.rolreplication desc
  limit 1`

/** For each new connection on which users' SQL is to run. Fails with what to change. */
export const ordinary: Effect.Effect<void, unknown, SqlClient.SqlClient> = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const found = SqlSchema.findAll({
    Request: Schema.Undefined,
    Result: Schema.Struct({ power: Schema.String }),
    execute: () => sql.unsafe(powers).unprepared
  })
  const [first] = yield* found(undefined)
  if (first !== undefined) {
    return yield* Effect.fail(
      new Error(
        `The role of HOLDFAST_QUERY_URL is, or may become, ${first.power}, so users' SQL would be above the rules of the database. Give it an ordinary role, or set HOLDFAST_QUERY_SUPERUSER=allow`
      )
    )
  }
})
