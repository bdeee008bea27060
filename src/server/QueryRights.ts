/**
 * Whether users' SQL may do more than it should: the role of its URL is asked once, when its server can be reached.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as QueryRoles from "./QueryRoles.ts"

const Rights = Schema.Struct({ role: Schema.String, right: Schema.NullOr(Schema.String) })

/** What lets a role leave its database (PostgreSQL, "Predefined Roles"), the worst first. */
const question = `select current_user::text as role, case
    when rolsuper then 'is a superuser'
    when pg_has_role(oid, 'pg_execute_server_program', 'member') then 'may run programs on the server'
    when pg_has_role(oid, 'pg_write_server_files', 'member') then 'may write files of the server'
    when pg_has_role(oid, 'pg_read_server_files', 'member') then 'may read files of the server'
    when rolreplication then 'may copy the whole server'
    when rolcreaterole then 'may make roles'
  end as right from pg_roles where rolname = current_user`

/** Warns of a role that all users' SQL runs as. */
export const layerWarning = (url: Redacted.Redacted<string>): Layer.Layer<never> =>
  Effect.scoped(
    Effect.flatMap(QueryRoles.connect(url), (connection) => QueryRoles.rowsOf(connection)(Rights, question))
  ).pipe(
    // Why it cannot be reached is told by those who need it.
    Effect.retry(Schedule.spaced("5 seconds")),
    Effect.flatMap(([found]) =>
      found === undefined || found.right === null
        ? Effect.void
        : Effect.logWarning(
            `The role ${found.role} of HOLDFAST_QUERY_URL ${found.right}, and so may every user. Use a role with fewer rights.`
          )
    ),
    Effect.forkScoped,
    Layer.effectDiscard
  )
