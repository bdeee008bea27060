import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { inspect } from "node:util"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import type { SessionError } from "../../src/session/SessionError.ts"
import * as SessionId from "../../src/session/SessionId.ts"
import type { SessionStore } from "../../src/session/SessionStore.ts"
import * as SessionToken from "../../src/session/SessionToken.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { inTimeOf } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"
import { advanceOf, instance, pgWorld } from "../support/sessions.ts"
import { authentication, create, newToken, outcome, session } from "../../src/testing/internal/SessionSamples.ts"

const all = <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) => Effect.all(effects, { concurrency: "unbounded" })

/** The first value of the first row. */
const value = (connection: PgConnection.PgConnection, sql: string, params?: ReadonlyArray<unknown>) =>
  Effect.map(connection.queryValues(sql, params), ([row]) => row?.[0])

const until = (connection: PgConnection.PgConnection, sql: string) =>
  Effect.repeat(value(connection, `select exists (${sql})`), { until: (is) => is === true })

const waitsForLock = (statement: string) =>
  `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
     and query like '%${statement}%' and pid <> pg_backend_pid()`

/** Answers within a limit that leaves the store's own some air, and says how it came out. */
const answer = <A>(effect: Effect.Effect<A, SessionError>, within: Duration.Input) =>
  Effect.timeoutOrElse(outcome(effect), { duration: within, orElse: () => Effect.succeed("no answer" as const) })

describe("PgSessionStore", () => {
  it.live("S5 two hundred loads of one due session write it once", () =>
    Effect.gen(function* () {
      const { advance, another, connection, store } = yield* pgWorld
      yield* connection.query("create table writes (at timestamptz)")
      yield* connection.query(
        `create function count_write() returns trigger language plpgsql as
         $$ begin insert into writes values (now()); return new; end $$`
      )
      const wanted = session()
      yield* create(store, wanted)
      for (const round of [1, 2, 3]) {
        yield* advance("10 minutes")
        yield* connection.query(
          "create trigger counted after update on holdfast.sessions for each row execute function count_write()"
        )
        const records = yield* all(
          Array.from({ length: 200 }, (_, index) => (index % 2 === 0 ? store : another).load(wanted.token))
        )
        yield* connection.query("drop trigger counted on holdfast.sessions")
        assert.strictEqual(yield* value(connection, "select count(*)::int from writes"), round)
        assert.lengthOf(new Set(records.map(({ lastSeenAt }) => lastSeenAt.epochMilliseconds)), 1)
      }
    })
  )

  it.live("S5 a load that meets the touch of another instance writes no second one", () =>
    Effect.gen(function* () {
      const { advance, blocker, connection, store } = yield* pgWorld
      const wanted = Array.from({ length: 4 }, () => session({ principal: null }))
      yield* all(wanted.map((one) => create(store, one)))
      yield* advance("10 minutes")
      // The statement that all four travel in is held up where it is about to write the first of them.
      yield* connection.query(
        `create function wait() returns trigger language plpgsql as
         $$ begin perform pg_advisory_xact_lock(1); return new; end $$`
      )
      yield* connection.query(
        "create trigger waits before update on holdfast.sessions for each row execute function wait()"
      )
      yield* blocker.query("select pg_advisory_lock(1)")
      const loads = yield* fork(all(wanted.map(({ token }) => store.load(token))))
      yield* until(connection, waitsForLock("found as"))
      const [untouched] = yield* connection.queryValues("select id from holdfast.sessions for update skip locked")
      if (untouched === undefined) return assert.fail("all are locked")
      yield* connection.query("set session_replication_role = replica")
      yield* connection.query("update holdfast.sessions set last_seen_at = now() where id = $1", untouched)
      const written = value(connection, "select xmin::text from holdfast.sessions where id = $1", untouched)
      const before = yield* written
      yield* blocker.query("select pg_advisory_unlock(1)")
      yield* Fiber.join(loads)
      assert.strictEqual(yield* written, before)
    })
  )

  it.live("S5 activity that meets another write of the session is written after it", () =>
    Effect.gen(function* () {
      const { advance, blocker, connection, store } = yield* pgWorld
      const wanted = session()
      const { id } = yield* create(store, wanted)
      const bystander = session({ principal: null })
      yield* create(store, bystander)
      yield* advance("29 minutes")
      yield* blocker.query("begin")
      yield* blocker.query("update holdfast.sessions set data = '1' where id = $1", [id])
      const [load, other] = [yield* fork(store.load(wanted.token)), yield* fork(store.load(bystander.token))]
      yield* Fiber.join(other)
      yield* until(connection, waitsForLock("set last_seen_at"))
      yield* blocker.query("commit")
      const loaded = yield* Fiber.join(load)
      assert.strictEqual(loaded.data, 1)
      yield* advance("29 minutes")
      yield* blocker.query("begin")
      yield* blocker.query("update holdfast.sessions set data = '2' where id = $1", [id])
      const touch = yield* fork(store.touch(wanted.token))
      yield* until(connection, waitsForLock("set last_seen_at"))
      yield* blocker.query("commit")
      yield* Fiber.join(touch)
      yield* advance("29 minutes")
      assert.strictEqual(yield* outcome(store.load(wanted.token)), "ok")
    })
  )

  it.live("a touch leaves every index alone", () =>
    Effect.gen(function* () {
      const { connection, url } = yield* pgWorld
      // Few enough that their page has room for every touch: how much of it is regained meanwhile depends on the oldest
      // transaction of the whole server, which other tests share.
      const wanted = Array.from({ length: 10 }, () => session({ principal: null }))
      // A backend reports what it did when it goes.
      const doing = (work: (store: SessionStore["Service"]) => Effect.Effect<unknown, unknown>) =>
        Effect.scoped(Effect.flatMap(instance({ url }), work))
      yield* doing((store) => all(wanted.map((one) => create(store, one))))
      yield* Effect.scoped(Effect.flatMap(PgConnection.make({ url }), (own) => advanceOf(own)("10 minutes")))
      const updated = (count: number) =>
        until(connection, `select from pg_stat_user_tables where relname = 'sessions' and n_tup_upd = ${count}`)
      yield* updated(wanted.length)
      const updates = () =>
        connection.queryValues("select n_tup_hot_upd::int from pg_stat_user_tables where relname = 'sessions'")
      const [before] = yield* updates()
      yield* doing((store) => Effect.forEach(wanted, ({ token }) => store.load(token)))
      yield* updated(wanted.length * 2)
      const [after] = yield* updates()
      assert.strictEqual(Number(after?.[0]) - Number(before?.[0]), wanted.length)
    })
  )

  it.live("a write that waits for a lock holds up no load", () =>
    Effect.gen(function* () {
      const { blocker, connection, store } = yield* pgWorld
      const wanted = session()
      const { id } = yield* create(store, wanted)
      yield* blocker.query("begin")
      yield* blocker.query("update holdfast.sessions set data = '1' where id = $1", [id])
      const blocked = Array.from({ length: 10 }, () => store.revoke(id))
      const revokes = yield* fork(all(blocked))
      yield* until(connection, waitsForLock("set ended_at"))
      assert.strictEqual((yield* store.load(wanted.token)).id, id)
      assert.lengthOf(yield* store.list("alice"), 1)
      yield* blocker.query("rollback")
      assert.lengthOf((yield* Fiber.join(revokes)).filter(Boolean), 1)
    })
  )

  it.live("S7 revoking a principal ends the session that is being created at that moment", () =>
    Effect.gen(function* () {
      const { another, blocker, connection, store } = yield* pgWorld
      // Holds a login up after its row was inserted and before it is committed.
      yield* connection.query(
        `create function hold() returns trigger language plpgsql as
         $$ begin perform pg_advisory_xact_lock(1); return new; end $$`
      )
      yield* connection.query(
        "create trigger held after insert on holdfast.sessions for each row execute function hold()"
      )
      for (const principal of ["new", "known"]) {
        if (principal === "known") yield* store.revokeAll(principal)
        yield* blocker.query("select pg_advisory_lock(1)")
        const wanted = session({ principal })
        const creating = yield* fork(create(store, wanted))
        yield* until(connection, waitsForLock("displaced"))
        const revoke = yield* fork(another.revokeAll(principal))
        yield* until(connection, waitsForLock("principals"))
        yield* blocker.query("select pg_advisory_unlock(1)")
        const { id } = yield* Fiber.join(creating)
        assert.deepStrictEqual(yield* Fiber.join(revoke), [id])
        assert.strictEqual(yield* outcome(store.load(wanted.token)), "SessionRevoked")
      }
    })
  )

  it.live("S6 a login or renewal that is interrupted anywhere is done wholly or not at all", () =>
    Effect.gen(function* () {
      const { connection, store, another } = yield* pgWorld
      for (const delay of Array.from({ length: 24 }, (_, index) => index)) {
        const wanted = session({ principal: null })
        yield* store.create(wanted)
        const login = authentication({ token: wanted.token, maxPerPrincipal: 2 })
        const next = newToken()
        const renews = delay % 2 === 1
        const working = yield* Effect.forkChild(
          renews ? store.renew({ token: wanted.token, next }) : store.authenticate(login)
        )
        yield* Effect.forEach(Array.from({ length: delay * 2 }), () => Effect.yieldNow)
        yield* Fiber.interrupt(working)
        // What was sent goes on; nothing is known before it is over.
        yield* until(
          connection,
          `select where not exists (
             select from pg_stat_activity where application_name = 'holdfast-sessions' and state <> 'idle')`
        )
        const [old, renewed, fresh] = yield* all(
          [wanted.token, next, login.next].map((token) => outcome(another.load(token)))
        )
        const story = [old, renewed, fresh].join(" ")
        const stories = renews
          ? ["ok SessionMissing SessionMissing", "ok ok SessionMissing"]
          : ["ok SessionMissing SessionMissing", "SessionSuperseded SessionMissing ok"]
        assert.include(stories, story)
        assert.isAtMost((yield* another.list("alice")).length, 2)
      }
    })
  )

  it.live("S6 a login that meets a renewal kills the token that this is just issuing", () =>
    Effect.gen(function* () {
      const { another, blocker, connection, store } = yield* pgWorld
      const [wanted, next] = [session({ principal: null }), newToken()]
      yield* create(store, wanted)
      // Holds the renewal up after the new token was inserted and before it is committed.
      yield* connection.query(
        `create function wait() returns trigger language plpgsql as
         $$ begin if new.predecessor is not null then perform pg_advisory_xact_lock(1); end if; return new; end $$`
      )
      yield* connection.query(
        "create trigger waits after insert on holdfast.session_tokens for each row execute function wait()"
      )
      yield* blocker.query("select pg_advisory_lock(1)")
      const renewing = yield* fork(store.renew({ token: wanted.token, next }))
      yield* until(connection, waitsForLock("set successor"))
      const login = authentication({ token: wanted.token })
      const loggingIn = yield* fork(another.authenticate(login))
      yield* until(
        connection,
        `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
           having count(*) = 2`
      )
      yield* blocker.query("select pg_advisory_unlock(1)")
      yield* Fiber.join(renewing)
      yield* Fiber.join(loggingIn)
      const outcomes = yield* all([wanted.token, next, login.next].map((token) => outcome(store.load(token))))
      assert.deepStrictEqual(outcomes, ["SessionSuperseded", "SessionSuperseded", "ok"])
    })
  )

  it.live(
    "S6 two principals that take each other's sessions over, the one held up at the other's, do not deadlock",
    () =>
      Effect.gen(function* () {
        const { another, blocker, connection, store } = yield* pgWorld
        const [hers, his] = [session({ principal: "alice" }), session({ principal: "bob" })]
        yield* create(store, hers)
        const { id } = yield* create(store, his)
        const waiting = (count: number) =>
          until(
            connection,
            `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
             having count(*) = ${count}`
          )
        yield* blocker.query("begin")
        yield* blocker.query("select from holdfast.sessions where id = $1 for update", [id])
        const alice = yield* fork(
          outcome(store.authenticate(authentication({ token: his.token, principal: "alice", maxPerPrincipal: 1 })))
        )
        yield* waiting(1)
        const bob = yield* fork(
          outcome(another.authenticate(authentication({ token: hers.token, principal: "bob", maxPerPrincipal: 1 })))
        )
        yield* waiting(2)
        yield* blocker.query("commit")
        assert.deepStrictEqual([yield* Fiber.join(alice), yield* Fiber.join(bob)], ["ok", "SessionRevoked"])
      })
  )

  it.live("S7 a revocation is later than the one before, also when the server's clock was set back between them", () =>
    Effect.gen(function* () {
      const { connection, store } = yield* pgWorld
      yield* store.revokeAll("alice")
      yield* connection.query("update holdfast.principals set revoked_at = now() + interval '1 hour'")
      const epoch = yield* store.epoch("alice")
      yield* store.revokeAll("alice")
      assert.strictEqual(yield* outcome(store.create(session({ epoch }))), "SessionRevoked")
      assert.strictEqual(yield* outcome(store.create(session({ epoch: yield* store.epoch("alice") }))), "ok")
    })
  )

  it.live("S6 a first load whose write meets another writer begins the time of grace after it", () =>
    Effect.gen(function* () {
      const { advance, blocker, connection, store } = yield* pgWorld
      const wanted = session()
      yield* store.create(wanted)
      yield* advance("61 seconds")
      const next = newToken()
      yield* store.renew({ token: wanted.token, next })
      yield* blocker.query("begin")
      yield* blocker.query("select from holdfast.session_tokens for update")
      const load = yield* fork(store.load(next))
      yield* until(connection, waitsForLock("set valid_until"))
      yield* blocker.query("commit")
      yield* Fiber.join(load)
      yield* advance("31 seconds")
      assert.strictEqual(yield* outcome(store.load(wanted.token)), "SessionSuperseded")
    })
  )

  it.live("S6 a first load that meets a login gives the old tokens no time of grace", () =>
    Effect.gen(function* () {
      const { another, blocker, connection, store } = yield* pgWorld
      const chains = yield* all(
        Array.from({ length: 4 }, () => {
          const [{ token }, next] = [{ token: newToken() }, newToken()]
          const made = Effect.andThen(store.create(session({ principal: null, token })), store.renew({ token, next }))
          return Effect.as(made, { token, next })
        })
      )
      // The statement that all four travel in is held up where it has written the first of them.
      yield* connection.query(
        `create function wait() returns trigger language plpgsql as
         $$ begin if old.predecessor is distinct from new.predecessor then perform pg_advisory_xact_lock(1); end if; return new; end $$`
      )
      yield* connection.query(
        "create trigger waits before update on holdfast.session_tokens for each row execute function wait()"
      )
      yield* blocker.query("select pg_advisory_lock(1)")
      const loads = yield* fork(all(chains.map(({ next }) => outcome(store.load(next)))))
      yield* until(connection, waitsForLock("found as"))
      const untouched = yield* connection.queryValues(
        "select encode(hash, 'hex') from holdfast.session_tokens where predecessor is null for update skip locked"
      )
      const chain = chains.find(({ token }) => untouched.some(([hash]) => hash === token))
      if (chain === undefined) return assert.fail("all are written")
      yield* another.authenticate(authentication({ token: chain.token }))
      yield* blocker.query("select pg_advisory_unlock(1)")
      yield* Fiber.await(loads)
      assert.strictEqual(yield* outcome(store.load(chain.token)), "SessionSuperseded")
      assert.strictEqual(yield* outcome(store.load(chain.next)), "SessionSuperseded")
    })
  )

  it.live("S12 ten pruners at once take each session once, in bounded statements, and no load waits", () =>
    Effect.gen(function* () {
      const { advance, connection, store, url } = yield* pgWorld
      yield* connection.query(
        `insert into holdfast.sessions (id, principal, data, data_version, version, device, created_at, last_seen_at,
           idle_timeout, renew_every, expires_at)
         select 's_' || gen_random_uuid(), 'p' || n % 50, '{}', 1, 1, '{}', now(), now(), '1 hour', '1 hour', now()
         from generate_series(1, 5000) n`
      )
      yield* connection.query(
        `insert into holdfast.session_tokens (hash, session, issued_at, nonce)
         select sha256(id::bytea), id, now(), '' from holdfast.sessions`
      )
      yield* connection.query("insert into holdfast.principals select 'p' || n from generate_series(0, 49) n")
      yield* advance("25 hours")
      const wanted = session({ principal: "p7" })
      yield* store.create(wanted)
      const pruners = yield* Effect.all(Array.from({ length: 10 }, () => instance({ url, maxConnections: 2 })))
      let most = 0
      const prune = (pruner: SessionStore["Service"]): Effect.Effect<number, SessionError> =>
        Effect.flatMap(pruner.prune(100), ({ sessions: count }) => {
          most = Math.max(most, count)
          return count === 0 ? Effect.succeed(0) : Effect.map(prune(pruner), (more) => count + more)
        })
      const loading = yield* fork(
        Effect.forever(
          Effect.timeoutOrElse(store.load(wanted.token), {
            duration: "2 seconds",
            orElse: () => Effect.die(new Error("A load waited"))
          })
        )
      )
      const counts = yield* all(pruners.map(prune))
      const rest = yield* prune(store)
      assert.strictEqual(
        counts.reduce((sum, count) => sum + count, rest),
        5000
      )
      assert.isAtMost(most, 100)
      assert.isUndefined(loading.pollUnsafe())
      yield* Fiber.interrupt(loading)
      assert.deepStrictEqual(yield* connection.queryValues("select principal from holdfast.principals"), [["p7"]])
      assert.strictEqual(yield* value(connection, "select count(*)::int from holdfast.session_tokens"), 1)
    })
  )

  it.live("S12 pruning goes on from where it was, past what is pruned already, and begins anew when it is done", () =>
    Effect.gen(function* () {
      const { connection, store } = yield* pgWorld
      const insert = (from: number, to: number) =>
        connection.query(
          `insert into holdfast.sessions (id, principal, data, data_version, version, device, created_at, last_seen_at,
             idle_timeout, renew_every, expires_at)
           select 's_' || gen_random_uuid(), null, '{}', 1, 1, '{}', at, at, '1 hour', '1 hour', at
           from generate_series($1::int, $2::int) n, lateral (select now() - interval '9 days' + n * interval '1 hour' as at) a`,
          [from, to]
        )
      const oldest = value(
        connection,
        "select count(*)::int from holdfast.sessions where expires_at < now() - interval '9 days'"
      )
      yield* insert(1, 20)
      const counts: Array<number> = []
      const prune = Effect.map(store.prune(10), ({ sessions }) => counts.push(sessions))
      yield* prune
      yield* insert(-1, -1)
      yield* insert(21, 25)
      yield* prune
      assert.strictEqual(yield* oldest, 1)
      yield* prune
      assert.strictEqual(yield* oldest, 1)
      yield* prune
      assert.strictEqual(yield* oldest, 0)
      assert.deepStrictEqual(counts, [10, 10, 5, 1])
    })
  )

  it.live("S12 a pruner waits for nobody: what another is at is left to it", () =>
    Effect.gen(function* () {
      const { advance, blocker, connection, store } = yield* pgWorld
      const [first] = yield* Effect.forEach([1, 2, 3], () => create(store, session({ principal: null })))
      yield* advance("3 days")
      yield* blocker.query("begin")
      yield* blocker.query("select from holdfast.sessions where id = $1 for update", [first?.id])
      assert.strictEqual((yield* store.prune(10)).sessions, 2)
      yield* blocker.query("commit")
      assert.strictEqual((yield* store.prune(10)).sessions, 1)
      assert.strictEqual(yield* value(connection, "select count(*)::int from holdfast.sessions"), 0)
    })
  )

  it.live(
    "S12 a great deal that was pruned is in nobody's way, and what was left behind it is found an hour later",
    () =>
      Effect.gen(function* () {
        const { connection, url } = yield* pgWorld
        let later = 0n
        const real = Clock.Clock.defaultValue()
        const clock: Clock.Clock = Object.create(real, {
          monotonicTimeNanosUnsafe: { value: () => real.monotonicTimeNanosUnsafe() + later }
        })
        const store = yield* Effect.provideService(instance({ url }), Clock.Clock, clock)
        const insert = (count: number, age: string) =>
          connection.query(
            `insert into holdfast.sessions (id, principal, data, data_version, version, device, created_at, last_seen_at,
             idle_timeout, renew_every, expires_at)
           select 's_' || gen_random_uuid(), null, '{}', 1, 1, '{}', at, at, '1 hour', '1 hour', at
           from generate_series(1, $1::int), (select now() - $2::interval as at) as a`,
            [count, age]
          )
        const pruneAll: Effect.Effect<number, SessionError> = Effect.flatMap(store.prune(5000), ({ sessions }) =>
          sessions < 5000 ? Effect.succeed(sessions) : Effect.map(pruneAll, (more) => sessions + more)
        )
        const lag = Effect.map(store.pruneLag, Duration.toHours)
        yield* insert(12_000, "3 days")
        assert.isAbove(yield* lag, 47.9)
        assert.strictEqual(yield* pruneAll, 12_000)
        yield* insert(3, "5 days")
        yield* insert(2, "2 days")
        assert.closeTo(yield* lag, 24, 0.1)
        assert.strictEqual(yield* pruneAll, 2)
        assert.strictEqual(yield* lag, 0)
        assert.strictEqual(yield* pruneAll, 0)
        later = Duration.toNanosUnsafe("1 hour")
        assert.strictEqual(yield* pruneAll, 0)
        assert.isAbove(yield* lag, 95.9)
        assert.strictEqual(yield* pruneAll, 3)
      })
  )

  it.live(
    "S12 what is known of a principal without sessions is forgotten, but no epoch that a login may have seen",
    () =>
      Effect.gen(function* () {
        const { advance, connection, store } = yield* pgWorld
        const known = Effect.map(
          connection.queryValues("select principal from holdfast.principals order by 1"),
          (rows) => rows.flat().join(" ")
        )
        const epoch = yield* store.epoch("gone")
        yield* store.revokeAll("gone")
        yield* store.revokeAll("alice")
        yield* store.create(session({ absoluteTimeout: Duration.days(30), idleTimeout: Duration.days(30) }))
        yield* advance("23 hours")
        yield* store.prune(10)
        assert.strictEqual(yield* known, "alice gone")
        assert.strictEqual(yield* outcome(store.create(session({ principal: "gone", epoch }))), "SessionRevoked")
        yield* advance("2 hours")
        yield* store.prune(10)
        assert.strictEqual(yield* known, "alice")
        assert.strictEqual(yield* value(connection, "select count(revoked_at)::int from holdfast.principals"), 0)
      })
  )

  it.live("S10 no hash is in what a refused statement leaves behind, also when the server names the row", () =>
    Effect.gen(function* () {
      const { store } = yield* pgWorld
      const wanted = session()
      yield* create(store, wanted)
      const other = session()
      yield* create(store, other)
      for (const refused of [
        Effect.asVoid(store.create({ ...session(), token: wanted.token })),
        Effect.asVoid(store.create({ ...session({ principal: null }), token: wanted.token })),
        Effect.asVoid(store.renew({ token: other.token, next: wanted.token })),
        Effect.asVoid(store.rotate({ token: other.token, next: wanted.token })),
        Effect.asVoid(store.authenticate(authentication({ token: other.token, next: wanted.token })))
      ]) {
        const error = yield* Effect.flip(refused)
        assert.strictEqual(error.reason._tag, "SessionTokenTaken")
        const text = inspect(error, { depth: 20, showHidden: true })
        assert.notInclude(text, wanted.token)
        assert.notInclude(text, other.token)
      }
    })
  )

  it.live("S10 the tables hold no token", () =>
    Effect.gen(function* () {
      const { advance, connection, store } = yield* pgWorld
      const token = SessionToken.make()
      const wanted = session({ token: SessionToken.hash(token) })
      const { id } = yield* create(store, wanted)
      yield* advance("10 minutes")
      yield* store.load(wanted.token)
      yield* store.update({ id, version: 1, data: [], dataVersion: 1 })
      yield* store.revoke(id)
      const text = Redacted.value(token)
      const forms = [text, Buffer.from(text), Buffer.from(text, "base64url")].map((form) =>
        typeof form === "string" ? form : form.toString("hex")
      )
      const tables = yield* connection.queryValues("select tablename from pg_tables where schemaname = 'holdfast'")
      assert.isAtLeast(tables.length, 3)
      let dump = ""
      for (const [table] of tables) {
        // A row as text shows bytea in hexadecimal.
        const rows = yield* connection.queryValues(`select t::text from holdfast.${String(table)} t`)
        dump += rows.join("\n")
      }
      assert.include(dump, wanted.token)
      for (const form of forms) assert.notInclude(dump, form)
    })
  )

  it.live("S13 what cannot be read fails alone, and says where without saying what", () =>
    Effect.gen(function* () {
      const { another, connection, store } = yield* pgWorld
      const wanted = Array.from({ length: 6 }, () => session({ maxPerPrincipal: 10 }))
      const records = yield* all(wanted.map((one) => create(store, one)))
      const spoil = (index: number, change: string) =>
        connection.query(`update holdfast.sessions set ${change} where id = $1`, [records[index]?.id])
      yield* spoil(1, `device = '{"userAgent": "secret", "ip": 7}'`)
      yield* spoil(2, "device = '[]'")
      yield* spoil(3, "data = '[1e999]'")
      yield* spoil(4, "expires_at = 'infinity'")
      const outcomes = yield* all(wanted.map(({ token }) => outcome(store.load(token))))
      const bad = "SessionUndecodable"
      assert.deepStrictEqual(outcomes, ["ok", bad, bad, bad, bad, "ok"])
      const error = yield* Effect.flip(another.load(wanted[1]?.token ?? newToken()))
      assert.match(error.message, /^The stored session cannot be read: session s_\S+ has an unexpected device\.ip$/)
      assert.lengthOf(yield* store.list("alice"), 2)
      assert.lengthOf(yield* another.revokeAll("alice"), 6)
    })
  )

  it.live("no interval has days, which daylight saving would stretch", () =>
    Effect.gen(function* () {
      const { connection, store } = yield* pgWorld
      yield* create(store, session({ idleTimeout: Duration.days(3), absoluteTimeout: Duration.days(300) }))
      const days = "extract(day from idle_timeout) + extract(day from interval '86400000 milliseconds')"
      assert.strictEqual(yield* value(connection, `select (${days})::int from holdfast.sessions`), 0)
      const hours = "extract(epoch from expires_at - created_at) / 3600"
      assert.strictEqual(yield* value(connection, `select (${hours})::int from holdfast.sessions`), 7200)
    })
  )

  it.live("a store takes no part in a transaction of the program", () =>
    Effect.gen(function* () {
      const { store, url } = yield* pgWorld
      const wanted = session()
      yield* Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql.withTransaction(
          Effect.andThen(Effect.andThen(create(store, wanted), store.load(wanted.token)), Effect.fail("rollback"))
        )
      }).pipe(Effect.provide(PgClient.layer({ url })), Effect.ignore)
      assert.strictEqual(yield* outcome(store.load(wanted.token)), "ok")
    })
  )

  it.live("eight instances that start together apply each migration once", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      yield* all(Array.from({ length: 8 }, () => PgSessionStore.migrate({ url })))
      yield* PgSessionStore.migrate({ url })
      // Between looking for the schema and making it, somebody else makes it.
      const late = yield* PgConnection.make({ url })
      yield* late.query("begin")
      yield* late.query("create schema contested")
      const migrate = yield* fork(PgSessionStore.migrate({ url, schema: "contested" }))
      const connection = yield* PgConnection.make({ url })
      yield* until(connection, waitsForLock("create schema"))
      yield* late.query("commit")
      yield* Fiber.join(migrate)
      yield* all(["one", "two"].map((schema) => PgSessionStore.migrate({ url, schema })))
      const store = yield* instance({ url })
      const other = yield* instance({ url, schema: "two" })
      const wanted = session()
      yield* create(store, wanted)
      assert.strictEqual(yield* outcome(other.load(wanted.token)), "SessionMissing")
      const applied = yield* connection.queryValues("select migration_id, name from holdfast.session_migrations")
      assert.deepStrictEqual(applied, [
        [1, "sessions"],
        [2, "actors"]
      ])
    })
  )

  it.live("C7 closing the layer leaves no connection, also with operations under way", () =>
    Effect.gen(function* () {
      const { blocker, connection, url } = yield* pgWorld
      const scope = yield* Scope.make()
      const store = yield* Scope.provide(instance({ url, applicationName: "closing" }), scope)
      const { id } = yield* create(store, session())
      yield* blocker.query("begin")
      yield* blocker.query("select from holdfast.sessions for update")
      const revoke = yield* fork(store.revoke(id))
      yield* until(connection, waitsForLock("set ended_at"))
      yield* Scope.close(scope, Exit.void)
      yield* until(
        connection,
        "select where not exists (select from pg_stat_activity where application_name = 'closing')"
      )
      yield* blocker.query("rollback")
      assert.isTrue(Exit.isFailure(yield* Fiber.await(revoke)))
    })
  )

  it.live("S11 a server that is down is reported as such, in time, and found again when it is back", () =>
    Effect.gen(function* () {
      const server = yield* TestPostgres.make()
      const options = { url: server.superuserUrl, operationTimeout: "1 second" } as const
      yield* server.stop
      const store = yield* instance(options)
      const wanted = session()
      for (const operation of operations(store)) {
        assert.strictEqual(yield* answer(operation, inTimeOf(1300)), "SessionsUnavailable")
      }
      assert.strictEqual(yield* answer(PgSessionStore.migrate(options), inTimeOf(1300)), "SessionsUnavailable")
      yield* server.start
      // Reached, but not ready: the tables are not there.
      assert.strictEqual(yield* outcome(store.ping), "SessionsUnavailable")
      yield* PgSessionStore.migrate(options)
      yield* store.ping
      yield* create(store, wanted)
      for (const take of [server.restart, Effect.andThen(server.kill, server.start)]) {
        yield* take
        // A connection that broke is found out by the first who uses it.
        yield* Effect.retry(store.load(wanted.token), { times: 5 })
        yield* Effect.retry(
          store.update({ id: (yield* store.load(wanted.token)).id, version: 1, data: 1, dataVersion: 1 }),
          { times: 5 }
        ).pipe(Effect.ignore)
      }
      assert.strictEqual(yield* outcome(store.load(wanted.token)), "ok")
    })
  )

  it.live("S11 a network that swallows everything is reported in time, and nothing dead is used again", () =>
    Effect.gen(function* () {
      const { url } = yield* pgWorld
      const proxy = yield* FaultProxy.to(url)
      const options = { url: proxy.url, operationTimeout: "1 second" } as const
      const store = yield* instance(options)
      const wanted = session()
      yield* create(store, wanted)
      yield* store.load(wanted.token)
      yield* proxy.silence
      const outcomes = yield* all(
        [...operations(store), ...operations(store), PgSessionStore.migrate(options)].map((operation) =>
          answer(operation, inTimeOf(1300))
        )
      )
      assert.deepStrictEqual(new Set(outcomes), new Set(["SessionsUnavailable"]))
      yield* proxy.speak
      // A connection that was being opened meanwhile may have to give up first; what was cancelled, after five seconds.
      yield* Effect.retry(store.load(wanted.token), { times: 1 })
      yield* Effect.retry(store.revokeAll("alice"), { times: 6 })
      assert.strictEqual(yield* answer(store.load(wanted.token), "1 second"), "SessionRevoked")
    })
  )
})

const fork = <A, E>(effect: Effect.Effect<A, E>) => Effect.forkChild(effect, { startImmediately: true })

const operations = (
  store: Effect.Success<ReturnType<typeof instance>>
): ReadonlyArray<Effect.Effect<unknown, SessionError>> => [
  store.load(newToken()),
  create(store, session()),
  create(store, session({ principal: null })),
  store.touch(newToken()),
  store.renew({ token: newToken(), next: newToken() }),
  store.authenticate(authentication({ token: newToken() })),
  store.revokeAll("alice"),
  store.epoch("alice"),
  store.list("alice"),
  store.endedOf([SessionId.make()]),
  store.prune(1),
  store.pruneLag,
  store.ping
]
