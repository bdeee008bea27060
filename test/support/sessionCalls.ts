/**
 * The session calls of the service as a browser makes them, and a hand on the time of its sessions.
 */
import { assert } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type Answer, type Browser, make as makeBrowser, problemOf } from "./browser.ts"
import { urlOf } from "./postgres.ts"

/** Another browser with the same cookies, such as the one of somebody who stole them. */
export const copyOf = (browser: Browser, url = browser.url): Browser => {
  const copy = makeBrowser(url)
  for (const [name, value] of browser.cookies) copy.cookies.set(name, value)
  return copy
}

/** The one cookie that a browser has. */
export const tokenOf = ({ cookies }: Browser): string => {
  assert.strictEqual(cookies.size, 1)
  return Array.from(cookies.values()).join()
}

const Session = Schema.Struct({
  id: Schema.String,
  principal: Schema.String,
  createdAt: Schema.DateTimeUtcFromString,
  idleExpiresAt: Schema.DateTimeUtcFromString,
  expiresAt: Schema.DateTimeUtcFromString
})

const ok = (answer: Answer, status = 200) => {
  assert.strictEqual(answer.status, status, answer.text)
  return answer
}

/** The session of a browser, which must have one. */
export const session = (browser: Browser) =>
  Effect.map(browser.send("GET", "/session"), (answer) => Schema.decodeUnknownSync(Session)(ok(answer).json))

const Devices = Schema.Array(
  Schema.Struct({
    id: Schema.String,
    current: Schema.Boolean,
    createdAt: Schema.DateTimeUtcFromString,
    lastSeenAt: Schema.DateTimeUtcFromString,
    expiresAt: Schema.DateTimeUtcFromString,
    ip: Schema.NullOr(Schema.String),
    userAgent: Schema.NullOr(Schema.String)
  })
)

export const devices = (browser: Browser) =>
  Effect.map(browser.send("GET", "/sessions"), (answer) => Schema.decodeUnknownSync(Devices)(ok(answer).json))

/** The data of a browser's session with its version. */
export const data = (browser: Browser) =>
  Effect.map(browser.send("GET", "/session/data"), (answer) => dataOf(ok(answer)))

export const dataOf = ({ headers, text }: Answer) => ({ text, etag: headers.get("etag") ?? "" })

export const patch = (browser: Browser, json: unknown) => browser.send("PATCH", "/session/data", { json })

/** Why a browser has no session: the code of the 401. */
export const refusal = (browser: Browser) =>
  Effect.map(browser.send("GET", "/session"), (answer) => problemOf(ok(answer, 401)).code)

const onDatabase = (database: string, sql: string) =>
  Effect.scoped(
    Effect.flatMap(PgConnection.make({ url: urlOf(database), applicationName: "test" }), (it) => it.query(sql))
  )

/** For the store, time goes on: all times of its sessions and tokens move back. */
export const travel = (database: string, by: Duration.Input) =>
  onDatabase(
    database,
    `do $$ declare one record; begin
       for one in
         select c.table_name, string_agg(format('%1$I = %1$I - interval ''${Duration.toMillis(by)} milliseconds''', c.column_name), ', ') as changes
         from information_schema.columns as c join information_schema.tables as t using (table_schema, table_name)
         where c.table_schema = 'holdfast' and c.data_type = 'timestamp with time zone'
           and t.table_type = 'BASE TABLE' and c.table_name in ('sessions', 'session_tokens')
         group by c.table_name
       loop execute format('update holdfast.%I set %s', one.table_name, one.changes); end loop;
     end $$`
  )

/** What a query on the sessions' tables tells. */
export const stored = (database: string, sql: string) => Effect.map(onDatabase(database, sql), ({ rows }) => rows)

/** Makes a user with the password of the user `demo`, without the quarter of a second that a new one would take. */
export const addUser = (database: string, name: string) =>
  onDatabase(
    database,
    `insert into holdfast.users (name, password_hash, operator)
     select '${name}', password_hash, false from holdfast.users where name = 'demo'`
  )
