/**
 * What an instance has at a PostgreSQL that queries run on: noted in the journal before it is used, and ended from elsewhere when
 * the instance is gone.
 *
 * It lives as long as its scope, and holds a connection only while it ends something.
 *
 * **Details**
 *
 * Give {@link PgQueryBackends.register} to the pool as `onOpen`, and the whole to the engine as `elsewhere`. A backend is known by
 * process id and start time, so that a reused process id is never mistaken for it.
 *
 * **Gotchas**
 *
 * The role of the URL has to be allowed to end the backends: it is the role that they are logged in as, or a member of it, or of
 * `pg_signal_backend`. {@link PgQueryBackends.missing} says what is not. PostgreSQL, "Server Signaling Functions".
 *
 * Install `@effect/sql-pg` beside Holdfast.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as QueryBackends from "../query/internal/QueryBackends.ts"
import type { Elsewhere } from "../query/QueryDriver.ts"
import * as PgDriver from "./internal/PgDriver.ts"
import * as PgTarget from "./internal/PgTarget.ts"

/** Which server, and what the registry calls it. */
export interface Options {
  readonly url: Redacted.Redacted<string>
  /** The name of the engine. */
  readonly engine: string
  /** Takes the place of the password in the URL. */
  readonly password?: Redacted.Redacted<string> | undefined
  /** Which roles queries run as: that of the URL alone, or others, too. Default: `own`. */
  readonly roles?: "own" | "others" | undefined
}

export interface PgQueryBackends extends Elsewhere {
  /** For `onOpen` of the pool. It fails for an instance that others take for gone. */
  readonly register: Effect.Effect<void, unknown, SqlClient.SqlClient>
  readonly missing: Effect.Effect<string | undefined, unknown>
}

/** Names are written out: a role can have put others of the same name first on its search path. */
const whoAmI =
  "select s.pid, s.backend_start::pg_catalog.text as started from pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) as s"

/** Ends those that are there still, and counts them. */
const terminate = `
  select pg_catalog.count(pg_catalog.pg_terminate_backend(a.pid))::pg_catalog.int4
  from rows from (pg_catalog.unnest($1::pg_catalog.int4[]), pg_catalog.unnest($2::pg_catalog.timestamptz[])) as t(pid, start)
  join pg_catalog.pg_stat_activity a on a.pid operator(pg_catalog.=) t.pid
    and coalesce(a.backend_start operator(pg_catalog.=) t.start, true)`

const mayEnd = `
  select pg_catalog.pg_has_role(session_user, 'pg_signal_backend', 'USAGE') or r.rolsuper
  from pg_catalog.pg_roles r where r.rolname operator(pg_catalog.=) session_user`

const decodeWho = Schema.decodeUnknownEffect(Schema.Tuple([Schema.Struct({ pid: Schema.Int, started: Schema.String })]))
const decodeCount = Schema.decodeUnknownEffect(Schema.Tuple([Schema.Tuple([Schema.Int])]))
const decodeMay = Schema.decodeUnknownEffect(Schema.Tuple([Schema.Tuple([Schema.Boolean])]))

/** How long the server has to answer. */
const patience = Duration.seconds(3)

const handleOf = ({ pid, started }: { readonly pid: number; readonly started: string }) => `${pid} ${started}`

const ofHandle = (handle: string) => {
  const space = handle.indexOf(" ")
  return { pid: Number(handle.slice(0, space)), started: handle.slice(space + 1) }
}

/** Makes it, over the `QueryJournal` in context. Without a shared one it notes nothing. */
export const make = Effect.fnUntraced(function* ({ engine, password, roles = "own", url }: Options) {
  const note = yield* QueryBackends.noting(engine)
  const config = {
    ...PgTarget.of(url).config,
    ...(password !== undefined && { password: Effect.succeed(password) }),
    applicationName: "holdfast-takeover",
    connectTimeout: patience
  }
  const ask = (sql: string, params: ReadonlyArray<unknown>) =>
    Effect.scoped(Effect.flatMap(PgDriver.brief(config), (ask) => ask(sql, params))).pipe(Effect.timeout(patience))

  const register = note(
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [backend] = yield* Effect.flatMap(sql.unsafe(whoAmI).unprepared, decodeWho)
      return handleOf(backend)
    })
  )

  const end = (handles: ReadonlyArray<string>) => {
    const backends = handles.map(ofHandle)
    return Effect.flatMap(
      ask(terminate, [backends.map(({ pid }) => pid), backends.map(({ started }) => started)]),
      (rows) => Effect.map(decodeCount(rows), ([[left]]) => left)
    )
  }

  const missing =
    roles === "own"
      ? Effect.succeed(undefined)
      : Effect.flatMap(ask(mayEnd, []), (rows) =>
          Effect.map(decodeMay(rows), ([[may]]) =>
            may
              ? undefined
              : "its role is no member of pg_signal_backend, so it cannot end what other roles run. Grant it, or statements of an instance that was killed end only when the server notices that their client is gone"
          )
        )

  return { register, end, missing } satisfies PgQueryBackends as PgQueryBackends
})
