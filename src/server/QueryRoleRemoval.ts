/**
 * The end of a user's database role: nobody can log in as it, its connections end, it is removed, and what it owned is left to the
 * role that made it. Nothing is deleted.
 *
 * It can be done again when it was cut short.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as QueryRoleNames from "./QueryRoleNames.ts"
import { connect, explained, identifier, QueryRolesError, rowsOf, self } from "./QueryRoles.ts"

/** What was removed, and what is left of it. */
export interface Removed {
  readonly role: string
  /** Who owns it now. */
  readonly heir: string
  /** The schema that was the role's, by its new name; none where it was empty. */
  readonly schema: string | undefined
  /** How many objects of each type, such as `table`. */
  readonly left: ReadonlyArray<{ readonly type: string; readonly count: number }>
}

const Found = Schema.Struct({ found: Schema.Int })
const Left = Schema.Struct({ type: Schema.String, count: Schema.Int })

/** Owned in this database, without what belongs to something else that is owned, such as the type of a table. */
const owned = `select o.type, count(*)::int as count
  from pg_shdepend d cross join lateral pg_identify_object(d.classid, d.objid, d.objsubid) o
  where d.refclassid = 'pg_authid'::regclass and d.refobjid = (select oid from pg_roles where rolname = $1)
    and d.deptype = 'o' and d.dbid = (select oid from pg_database where datname = current_database())
  group by o.type order by o.type`

const inSchema = `select count(*)::int as found from pg_depend
  where refclassid = 'pg_namespace'::regclass and refobjid = (select oid from pg_namespace where nspname = $1)`

/** Rights that somebody gave the role who does not own what they are on: only the giver takes those back. */
const given = `select what, name, g.rolname::text as giver from (
    select 'schema' as what, oid::regnamespace::text as name, nspowner as owner, nspacl as acl from pg_namespace
    union all
    select case relkind when 'S' then 'sequence' else 'table' end, oid::regclass::text, relowner, relacl from pg_class
    union all
    select 'routine', oid::regprocedure::text, proowner, proacl from pg_proc
  ) o cross join lateral aclexplode(acl) a join pg_roles g on g.oid = a.grantor
  where a.grantor <> owner and a.grantee = (select oid from pg_roles where rolname = $1)`

const Given = Schema.Struct({
  what: Schema.Literals(["schema", "sequence", "table", "routine"]),
  name: Schema.String,
  giver: Schema.String
})

/** Waits until they are gone: a backend ends when it is next asked whether it should. */
const backends = "select count(*)::int as found from pg_stat_activity where usename = $1"

/** Removes the role of a user, if there is one. */
export const remove = Effect.fn("QueryRoleRemoval.remove")(
  function* (url: Redacted.Redacted<string>, principal: string) {
    const connection = yield* connect(url)
    const rows = rowsOf(connection)
    const count = (sql: string, name: string) => Effect.map(rows(Found, sql, [name]), ([row]) => row?.found ?? 0)
    const { database, me } = yield* self(connection)
    const role = QueryRoleNames.roleOf(database, principal)
    const [is, heir] = [identifier(role), identifier(me)]
    if ((yield* count("select count(*)::int as found from pg_roles where rolname = $1", role)) === 0) return undefined
    yield* connection.query(`alter role ${is} nologin`)
    yield* connection.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", [role])
    yield* count(backends, role).pipe(
      Effect.repeat({ until: (left) => left === 0, schedule: Schedule.spaced("20 millis") }),
      Effect.timeoutOrElse({
        duration: "5 seconds",
        orElse: () => Effect.fail(new QueryRolesError({ problem: `connections of ${role} do not end. Try again` }))
      })
    )
    yield* connection.query("begin")
    const left = yield* rows(Left, owned, [role])
    for (const { giver, name, what } of yield* rows(Given, given, [role])) {
      yield* connection.query(`set local role ${identifier(giver)}`)
      yield* connection.query(`revoke all on ${what} ${name} from ${is} cascade`)
      yield* connection.query("reset role")
    }
    yield* connection.query(`reassign owned by ${is} to ${heir}`)
    const isEmpty = (yield* count(inSchema, role)) === 0
    const seconds = Math.floor((yield* Clock.currentTimeMillis) / 1000)
    const schema = isEmpty ? undefined : QueryRoleNames.leftOf(role, seconds)
    yield* connection.query(
      schema === undefined ? `drop schema if exists ${is}` : `alter schema ${is} rename to ${identifier(schema)}`
    )
    // What is left of it are rights.
    yield* connection.query(`drop owned by ${is} cascade`)
    yield* connection.query(`drop role ${is}`)
    yield* connection.query("commit")
    return { role, heir: me, schema, left } satisfies Removed as Removed
  },
  (effect) => explained(Effect.scoped(effect))
)

const counted = ({ count, type }: Removed["left"][number]) => `${count} ${type}${count === 1 ? "" : "s"}`

/** Says what was removed and what is left, in a line. */
export const sentence = ({ heir, left, role, schema }: Removed): string => {
  const total = left.reduce((sum, { count }) => sum + count, 0)
  if (total === 0) return `role ${role} is removed. Nothing of theirs is left`
  const where = schema === undefined ? "" : `, those of their schema in ${schema}`
  return `role ${role} is removed. ${left.map(counted).join(", ")} ${total === 1 ? "is" : "are"} left and belong${total === 1 ? "s" : ""} to ${heir} now${where}. Give or drop them as the role ${heir}`
}
