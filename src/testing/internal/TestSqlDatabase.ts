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

/** Runs statements, one after the other, on a connection of their own. */
export const administer = (url: Redacted.Redacted<string>, ...statements: ReadonlyArray<string>) =>
  PgDirect.connect({ ...PgTarget.of(url).config, applicationName: "holdfast-test-databases" }).pipe(
    Effect.flatMap((connection) => Effect.forEach(statements, (sql) => connection.queryValues(sql, [], false))),
    Effect.scoped,
    inRealTime
  )

const Users = Schema.Array(Schema.Tuple([Schema.Int, Schema.String, Schema.String, Schema.String]))

/** Who is connected to a database. */
const usersOf = (url: Redacted.Redacted<string>, name: string) =>
  administer(
    url,
    `select pid, application_name, coalesce(state, ''), pg_catalog.left(query, 200) from pg_catalog.pg_stat_activity where datname = '${name}' and backend_type = 'client backend' order by pid`
  ).pipe(Effect.flatMap(([rows]) => Effect.orDie(Schema.decodeUnknownEffect(Users)(rows))))

/** How often it is asked whether the last connection is gone: two seconds in all. */
const patience = 100

/** Drops a database. Where somebody is connected, they are told apart, and it is dropped by force. */
const drop = Effect.fnUntraced(function* (url: Redacted.Redacted<string>, name: string) {
  const left = yield* usersOf(url, name).pipe(
    Effect.repeat({
      until: (users) => users.length === 0,
      schedule: Schedule.spaced("20 millis"),
      times: patience
    }),
    Effect.andThen(usersOf(url, name))
  )
  yield* administer(url, `drop database if exists ${name} with (force)`)
  if (left.length === 0) return
  const lines = left.map(
    ([pid, application, state, query]) =>
      `  backend ${pid}, application ${application}, ${state}, last statement: ${query}`
  )
  return yield* Effect.die(
    new Error(
      [
        `The test is over, and ${left.length} of its connections to its database are still open. Whoever opened one must close it in the scope of the test:`,
        ...lines
      ].join("\n")
    )
  )
}, inRealTime)

/** Creates a database for the current scope. */
export const create = Effect.fnUntraced(function* (url: Redacted.Redacted<string>, template?: string) {
  const name = `holdfast_test_${randomBytes(8).toString("hex")}`
  const from = template === undefined ? "" : ` template "${template.replaceAll('"', '""')}"`
  yield* Ledger.hold(
    { kind: "test database", id: name, releaseLimit: "none" },
    administer(url, `create database ${name}${from}`),
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
