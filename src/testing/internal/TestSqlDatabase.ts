/**
 * Databases for tests: one with the app's tables, and copies of it.
 *
 * Each lives as long as the scope it was made in. A copy is dropped without force, so that a connection which was left open is found.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import { randomBytes } from "node:crypto"
import { inRealTime } from "../../embedded/Postmaster.ts"
import * as Ledger from "../../lifetime/Ledger.ts"
import * as PgDirect from "../../postgres/internal/PgDirect.ts"
import * as PgTarget from "../../postgres/internal/PgTarget.ts"

export const urlOf = (url: Redacted.Redacted<string>, database: string): Redacted.Redacted<string> => {
  const changed = new URL(Redacted.value(PgTarget.of(url).config.url))
  changed.pathname = `/${encodeURIComponent(database)}`
  return Redacted.make(changed.href)
}

/** A connection for statements about databases, for the current scope. */
const connect = (url: Redacted.Redacted<string>) =>
  Effect.map(
    PgDirect.connect({ ...PgTarget.of(url).config, applicationName: "holdfast-test-databases" }),
    (connection) => (sql: string) => connection.queryValues(sql, [], false)
  )

const Users = Schema.Array(Schema.Tuple([Schema.Int, Schema.String, Schema.String, Schema.String]))

/** How often it is asked whether the last connection is gone: a second and a half in all, on a machine with nothing else to do. */
const patience = 75

/** Drops a database. Where somebody is connected, they are told apart, and it is dropped by force. */
const drop = Effect.fnUntraced(
  function* (url: Redacted.Redacted<string>, name: string) {
    const query = yield* connect(url)
    const users = query(
      `select pid, application_name, coalesce(state, ''), pg_catalog.left(query, 200) from pg_catalog.pg_stat_activity where datname = '${name}' and backend_type = 'client backend' order by pid`
    ).pipe(Effect.flatMap((rows) => Effect.orDie(Schema.decodeUnknownEffect(Users)(rows))))
    const left = yield* Effect.repeat(users, {
      until: (users) => users.length === 0,
      schedule: Schedule.spaced("20 millis"),
      times: patience
    }).pipe(Effect.andThen(users))
    yield* query(`drop database if exists ${name} with (force)`)
    if (left.length === 0) return
    const lines = left.map(
      ([pid, application, state, query]) =>
        `  backend ${pid}, application ${application}, ${state}, last statement: ${query}`
    )
    return yield* Effect.die(
      new Error(
        [
          `The test is over, and ${left.length} of its connections to its database are still open. The code that opened one must close it in the scope of the test:`,
          ...lines
        ].join("\n")
      )
    )
  },
  Effect.scoped,
  inRealTime
)

/** Creates a database for the current scope. */
export const create = Effect.fnUntraced(function* (url: Redacted.Redacted<string>, template?: string) {
  const name = `holdfast_test_${randomBytes(8).toString("hex")}`
  const from = template === undefined ? "" : ` template "${template.replaceAll('"', '""')}"`
  yield* Ledger.hold(
    { kind: "test database", id: name, releaseLimit: "none" },
    connect(url).pipe(
      Effect.flatMap((query) => query(`create database ${name}${from}`)),
      Effect.scoped,
      inRealTime
    ),
    () => Effect.void
  )
  yield* Effect.addFinalizer(() => Effect.catchTag(drop(url, name), "SqlError", Effect.die))
  return { name, url: urlOf(url, name) }
})

/** A database that is copied: nobody may be connected to it then, so one copy is made at a time. */
export const copies = Effect.fnUntraced(function* (url: Redacted.Redacted<string>, template: string) {
  const one = yield* Semaphore.make(1)
  return one.withPermit(create(url, template))
})
