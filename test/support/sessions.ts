/**
 * Session stores on a database of the shared server, and a hand on their time.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as MemorySessionStore from "../../src/session/MemorySessionStore.ts"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { freshDatabase } from "./postgres.ts"

/** An empty store in memory that nobody prunes. */
export const unprunedStore = MemorySessionStore.layerWith({ pruning: false })

/** An instance of the store until the scope closes. Nobody prunes it. */
export const instance = (options: PgSessionStore.Options) =>
  Effect.map(Layer.build(Layer.fresh(PgSessionStore.layer({ pruning: false, ...options }))), (context) =>
    Context.get(context, SessionStore)
  )

/** Moves all times of the sessions back: for the store, time went on. */
export const advanceOf = (connection: PgConnection.PgConnection) => (by: Duration.Input) =>
  connection.query(
    `with by as (select $1::float8 * interval '1 millisecond' as d), tokens as (
       update holdfast.session_tokens set issued_at = issued_at - d, valid_until = valid_until - d from by
     ), principals as (update holdfast.principals set revoked_at = revoked_at - d from by)
     update holdfast.sessions set created_at = created_at - d, last_seen_at = last_seen_at - d,
       expires_at = expires_at - d, ended_at = ended_at - d
     from by`,
    [Duration.toMillis(by)]
  )

/** A migrated database with two instances of the store, a connection for the test's own SQL, and one to hold locks. */
export const pgWorld = Effect.gen(function* () {
  const { name, url } = yield* freshDatabase
  yield* PgSessionStore.migrate({ url })
  const connection = yield* PgConnection.make({ url, applicationName: "test" })
  const blocker = yield* PgConnection.make({ url, applicationName: "test" })
  // Neither a time zone nor its daylight saving may have a say, so the instances live in different ones.
  const store = yield* instance({ url: inZone(url, "Asia/Tokyo") })
  const another = yield* instance({ url: inZone(url, "America/New_York") })
  const advance = (by: Duration.Input) => Effect.asVoid(advanceOf(connection)(by))
  return { name, url, connection, blocker, store, another, advance }
})

/** What a database, a role or the environment may have as its defaults, none of which may have a say. */
const defaults = [
  "default_transaction_isolation=serializable",
  "DateStyle=SQL,DMY",
  "IntervalStyle=sql_standard",
  "extra_float_digits=-15"
]

/** The same database for connections with a time zone and other defaults of their own. */
export const inZone = (url: Redacted.Redacted, zone: string) => {
  const changed = new URL(Redacted.value(url))
  changed.searchParams.set("options", [`TimeZone=${zone}`, ...defaults].map((setting) => `-c ${setting}`).join(" "))
  return Redacted.make(changed.href)
}
