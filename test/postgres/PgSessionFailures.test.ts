/**
 * What a server may answer instead of doing its work: each time the store is unavailable, nobody is logged out, and when the
 * server is well again so is the store, without anybody's doing.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { promises as Fs } from "node:fs"
import * as Path from "node:path"
import { inspect } from "node:util"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import type { SessionError } from "../../src/session/SessionError.ts"
import type * as SessionId from "../../src/session/SessionId.ts"
import type { SessionStore } from "../../src/session/SessionStore.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import { eventually } from "../support/conditions.ts"
import { instance, pgWorld } from "../support/sessions.ts"
import { authentication, create, newToken, outcome, session } from "../../src/testing/internal/SessionSamples.ts"

type Store = SessionStore["Service"]

const writes = (store: Store, known: Known): ReadonlyArray<Effect.Effect<unknown, SessionError>> => [
  store.create(session()),
  store.create(session({ principal: null })),
  store.update({ id: known.id, version: 1, data: 1, dataVersion: 1 }),
  store.renew({ token: known.token, next: newToken() }),
  store.authenticate(authentication({ token: known.token })),
  store.revoke(known.id),
  store.revokeAll("alice"),
  store.prune(1)
]

const reads = (store: Store, known: Known): ReadonlyArray<Effect.Effect<unknown, SessionError>> => [
  store.load(known.token),
  store.touch(known.token),
  store.epoch("alice"),
  store.list("alice"),
  store.endedOf([known.id]),
  store.pruneLag,
  store.ping
]

interface Known {
  readonly id: SessionId.SessionId
  readonly token: ReturnType<typeof newToken>
}

const known = (store: Store) =>
  Effect.gen(function* () {
    const wanted = session()
    const { id } = yield* create(store, wanted)
    return { id, token: wanted.token }
  })

/** Without anybody's doing, within a moment. */
const recovers = (store: Store, known: Known) =>
  Effect.gen(function* () {
    const soon = { schedule: Schedule.spaced("50 millis"), times: 40 }
    yield* Effect.retry(store.load(known.token), soon)
    const { version } = yield* Effect.retry(store.load(known.token), soon)
    yield* Effect.retry(store.update({ id: known.id, version, data: "well", dataVersion: 1 }), soon)
    for (let times = 0; times < 12; times++) yield* Effect.retry(create(store, session({ principal: null })), soon)
    // All of its connections are good by now.
    const outcomes = yield* Effect.all(
      Array.from({ length: 40 }, (_, index) =>
        outcome(
          index % 2 === 0
            ? Effect.asVoid(store.load(known.token))
            : Effect.asVoid(create(store, session({ principal: null })))
        )
      ),
      { concurrency: "unbounded" }
    )
    assert.deepStrictEqual(new Set(outcomes), new Set(["ok"]))
  })

describe("PgSessionStore, when the server fails", () => {
  it.live(
    "S11 a write that the server cannot do is unavailable, whatever its reason, and works when it can again",
    () =>
      Effect.gen(function* () {
        const { connection, store } = yield* pgWorld
        yield* connection.query("create table holdfast.failing (code text)")
        yield* connection.query(
          `create function fail() returns trigger language plpgsql as $$
           declare failure text := (select code from holdfast.failing);
           begin
             if failure is not null then raise exception 'secret' using errcode = failure; end if;
             return coalesce(new, old);
           end $$`
        )
        for (const table of ["sessions", "session_tokens", "principals"]) {
          yield* connection.query(
            `create trigger failing before insert or update or delete on holdfast.${table}
           for each row execute function fail()`
          )
        }
        // Serialization, deadlock, disk full, out of memory, cancelled, shutting down, read only, corrupted, internal.
        for (const code of ["40001", "40P01", "53100", "53200", "57014", "57P01", "25006", "XX001", "XX000"]) {
          const alice = yield* known(store)
          yield* connection.query("insert into holdfast.failing values ($1)", [code])
          const operations = writes(store, alice).slice(0, -1)
          for (const [index, operation] of operations.entries()) {
            assert.strictEqual(yield* outcome(operation), "SessionsUnavailable", `${code}: ${index}`)
          }
          assert.strictEqual(yield* outcome(store.load(alice.token)), "ok", `${code}: nobody is logged out`)
          yield* connection.query("delete from holdfast.failing")
          yield* recovers(store, alice)
        }
      })
  )

  it.live("S11 a standby is unavailable, and ends nothing, until it is the primary", () =>
    Effect.gen(function* () {
      const server = yield* TestPostgres.make({ settings: { wal_level: "replica", hot_standby: "on" } })
      yield* PgSessionStore.migrate({ url: server.superuserUrl })
      const store = yield* instance({ url: server.superuserUrl, operationTimeout: "2 seconds" })
      const alice = yield* known(store)
      yield* server.stop
      yield* Effect.promise(() => Fs.writeFile(Path.join(server.directory, "data", "standby.signal"), ""))
      yield* server.start
      const operations = all(store, alice)
      for (let rounds = 0; rounds < 2; rounds++) {
        for (const [index, operation] of operations.entries()) {
          assert.strictEqual(yield* outcome(operation), "SessionsUnavailable", `operation ${index}`)
        }
      }
      const admin = yield* PgConnection.make({ url: server.superuserUrl, applicationName: "admin" })
      yield* admin.query("select pg_promote()")
      yield* recovers(store, alice)
    })
  )

  it.live("S11 a server that went read-only, lets nobody in or has lost a table is unavailable, and found again", () =>
    Effect.gen(function* () {
      const server = yield* TestPostgres.make()
      const admin = yield* PgConnection.make({ url: server.superuserUrl, applicationName: "admin" })
      yield* PgSessionStore.migrate({ url: server.superuserUrl })
      yield* admin.query("create role app login password 'first secret'")
      yield* admin.query("grant usage on schema holdfast to app")
      yield* admin.query("grant all on all tables in schema holdfast to app")
      const url = server.url("postgres", { username: "app", password: "first secret" })
      const store = yield* instance({ url, operationTimeout: "2 seconds" })
      const alice = yield* known(store)
      yield* recovers(store, alice)
      // A backend that is letting somebody in has no name yet, and may have read the role before it was changed.
      const disconnect = Effect.gen(function* () {
        const [[now] = []] = yield* admin.queryValues("select clock_timestamp()::text")
        const older = admin.queryValues(
          `select pg_terminate_backend(pid, 5000) from pg_stat_activity
           where backend_type = 'client backend' and coalesce(usename, 'app') = 'app' and backend_start < $1::timestamptz`,
          [now]
        )
        yield* eventually(older, (rows) => rows.length === 0)
      })
      const cases: ReadonlyArray<
        readonly [what: string, code: string, ill: string, well: string, fails: typeof writes]
      > = [
        [
          "read-only",
          "25006",
          "alter role app set default_transaction_read_only = on",
          "alter role app reset default_transaction_read_only",
          writes
        ],
        ["password", "28P01", "alter role app password 'second secret'", "alter role app password 'first secret'", all],
        ["too many", "53300", "alter role app connection limit 0", "alter role app connection limit -1", all],
        ["no login", "28000", "alter role app nologin", "alter role app login", all],
        ["no table", "42P01", "alter schema holdfast rename to gone", "alter schema gone rename to holdfast", all],
        [
          "no right",
          "42501",
          "revoke all on holdfast.session_tokens, holdfast.principals, holdfast.sessions from app",
          "grant all on holdfast.session_tokens, holdfast.principals, holdfast.sessions to app",
          all
        ]
      ]
      for (const [what, code, ill, well, fails] of cases) {
        yield* admin.query(ill)
        yield* disconnect
        for (const [index, operation] of fails(store, alice).entries()) {
          const error = yield* Effect.flip(operation)
          assert.strictEqual(error.reason._tag, "SessionsUnavailable", `${what}: ${index}`)
          const text = inspect(error, { depth: 20, showHidden: true })
          assert.notInclude(text, "first secret", `${what}: ${index}`)
          if (index > 3) assert.include(text, code, `${what}: ${index}`)
        }
        yield* admin.query(well)
        yield* recovers(store, alice)
      }
    })
  )
})

const all: typeof writes = (store, known) => [...reads(store, known), ...writes(store, known)]
