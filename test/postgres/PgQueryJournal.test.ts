import { isDeepStrictEqual } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { QueriesUnavailable, QueryError } from "../../src/query/QueryError.ts"
import type * as QueryJournal from "../../src/query/QueryJournal.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import * as PgQueryJournal from "../../src/postgres/PgQueryJournal.ts"
import * as ScriptedQueryDriver from "../../src/testing/ScriptedQueryDriver.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"
import { act, alone, hang } from "../support/scripted.ts"
import * as Shared from "../support/sharedQueries.ts"

const alice = "alice"
const instant = act({})

/** Asks the database itself. */
const ask = (url: Redacted.Redacted<string>, sql: string, params: ReadonlyArray<unknown> = []) =>
  Effect.scoped(Effect.flatMap(PgConnection.make({ url }), (connection) => connection.queryValues(sql, params, false)))

const away = new QueryError({ reason: new QueriesUnavailable({ problem: "as asked" }) })

const lapse = (url: Redacted.Redacted<string>, name: string) =>
  ask(
    url,
    "update holdfast.query_instances set lease_until = clock_timestamp() - interval '1 second', ended_at = clock_timestamp() where name = $1",
    [name]
  )

describe("PgQueryJournal", () => {
  it.live("K1 any instance answers for any query, with the same answer", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        const a = yield* Shared.start(url)
        const b = yield* Shared.start(url)
        const { id } = yield* a.submit(act({ rows: 3 }))
        const record = yield* b.registry.await(alice, id)
        assert.strictEqual(record.state, "Succeeded")
        assert.deepStrictEqual(record, yield* a.registry.status(alice, id))
        for (const { registry } of [a, b]) {
          const { rows } = yield* registry.page(alice, id, { offset: 1, limit: 5 })
          assert.deepStrictEqual(rows, [[1], [2]])
          assert.deepStrictEqual((yield* registry.list(alice)).queries, [record])
        }
        const hanging = yield* a.submit(hang)
        const events = yield* Effect.forkChild(Stream.runCollect(b.registry.events(alice, hanging.id)))
        yield* eventually(b.registry.status(alice, hanging.id), ({ state }) => state === "Running")
        const canceled = yield* b.registry.cancel(alice, hanging.id)
        assert.strictEqual(canceled.state, "Canceled")
        const states = (yield* Fiber.join(events)).map(({ record, seq }) => [seq, record.state])
        assert.deepStrictEqual(
          states,
          canceled.transitions.map(({ state }, at) => [at + 1, state])
        )
        assert.strictEqual((yield* Effect.flip(b.registry.status("bob", id))).reason._tag, "QueryNotFound")
      })
    )
  )

  it.live("K1 the instance that ran a query says what the others say, as soon as they do, also of its rows", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        const b = yield* Shared.start(url)
        for (const kept of [undefined, QueryResults.layerMemory()]) {
          const [asked, written, told] = [Deferred.makeUnsafe(), Deferred.makeUnsafe(), Deferred.makeUnsafe()]
          let isAway = false
          const between = (journal: QueryJournal.Shared): QueryJournal.Shared => ({
            ...journal,
            end: (...outcome) =>
              Deferred.succeed(asked, undefined).pipe(
                Effect.andThen(Deferred.await(written)),
                Effect.andThen(journal.end(...outcome)),
                Effect.tap(() => Deferred.await(told))
              ),
            find: (...wanted) => (isAway ? Effect.fail(away) : journal.find(...wanted))
          })
          const a = yield* Shared.start(url, { kept, between })
          const { id } = yield* a.submit(act({ rows: 3 }))
          yield* Deferred.await(asked)
          // The journal lags behind what this instance knows, until the outcome is there.
          assert.strictEqual((yield* a.registry.status(alice, id)).state, "Running")
          yield* Deferred.succeed(written, undefined)
          const record = yield* b.registry.await(alice, id)
          assert.strictEqual(record.state, "Succeeded")
          assert.deepStrictEqual(yield* a.registry.status(alice, id), record)
          const range = { offset: 1, limit: 5 }
          assert.deepStrictEqual((yield* a.registry.page(alice, id, range)).rows, [[1], [2]])
          isAway = true
          assert.strictEqual((yield* a.registry.status(alice, id)).state, "Running")
          yield* Deferred.succeed(told, undefined)
          assert.deepStrictEqual(yield* a.registry.await(alice, id), record)
          isAway = false
          assert.deepStrictEqual((yield* a.registry.page(alice, id, range)).rows, [[1], [2]])
          yield* a.close
        }
      })
    )
  )

  it.live("K1 a text comes back from another instance as it was, also one that a database cannot hold", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        const a = yield* Shared.start(url, {
          script: { execute: (_, sink, execution) => ScriptedQueryDriver.answer({}, sink, execution) }
        })
        const b = yield* Shared.start(url)
        const sql = "select '\u0000 \ud800 \u{1f600} \\ \"'"
        const { id } = yield* a.submit({ sql, params: [] })
        assert.deepInclude(yield* b.registry.await(alice, id), { state: "Succeeded", sql })
        const { reason } = yield* Effect.flip(a.submit(instant, { principal: "al\0ice" }))
        assert.strictEqual(reason._tag, "QueriesUnavailable")
      })
    )
  )

  it.live(
    "K3 whose connection listens is known of every incarnation, also of one that begins when it listens already",
    () =>
      alone(
        Effect.gen(function* () {
          // As when a service starts: the tables come later than the connection.
          const { url } = yield* freshDatabase
          const starting = yield* Effect.forkChild(Shared.start(url, { journal: { beat: "100 millis" } }))
          // It asks for this as soon as it listens.
          const listens =
            "select from pg_stat_activity where application_name = 'holdfast-queries-journal' and query = 'select 1' and datname = current_database()"
          yield* eventually(ask(url, `select exists (${listens})`), (rows) => rows[0]?.[0] === true)
          yield* PgQueryJournal.migrate({ url })
          const { journal } = yield* Fiber.join(starting)
          const known = ask(
            url,
            "select i.id from holdfast.query_instances i join pg_stat_activity a on a.pid = i.listen_pid and a.backend_start = i.listen_start where i.ended_at is null"
          )
          const [[first] = []] = yield* eventually(known, (rows) => rows.length === 1)
          yield* lapse(url, journal.instance)
          yield* eventually(known, (rows) => rows.length === 1 && rows[0]?.[0] !== first)
        })
      )
  )

  it.live("every instance is asked, and one that does not answer is told, too", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        // A question is given up after two thirds of that.
        const a = yield* Shared.start(url, { journal: { instance: "a", operationTimeout: "1500 millis" } })
        const b = yield* Shared.start(url, { journal: { instance: "b" } })
        // The lease outlives the question.
        const silent = yield* Shared.start(url, { journal: { instance: "silent", lease: "1 minute" } })
        yield* a.journal.answering((question) => Effect.succeed(`a: ${question}`))
        yield* b.journal.answering((question) => Effect.succeed(`b: ${question}`))
        const answers = Effect.map(a.journal.ask("who"), (all) =>
          all.map(({ answer, instance }) => [instance, answer]).toSorted()
        )
        // An instance hears questions a moment after it is there.
        const told = (expected: ReadonlyArray<ReadonlyArray<string | undefined>>) =>
          eventually(answers, (all) => isDeepStrictEqual(all, expected))
        yield* told([
          ["a", "a: who"],
          ["b", "b: who"],
          ["silent", undefined]
        ])
        yield* silent.close
        yield* told([
          ["a", "a: who"],
          ["b", "b: who"]
        ])
        // Nothing is left of a question, and what somebody else notifies is none.
        yield* ask(url, "notify holdfast_queries, 'q q_00000000-0000-4000-8000-000000000000'")
        const counted =
          "select (select count(*)::int from holdfast.query_questions), (select count(*)::int from holdfast.query_answers)"
        assert.deepStrictEqual(yield* ask(url, counted), [[0, 0]])
      })
    )
  )

  it.live("K2 an instance that others took for gone changes no record, and what it ran is ended", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        const gate = yield* Deferred.make<void>()
        const a = yield* Shared.start(url, {
          journal: { instance: "a", beat: "1 hour" },
          registry: { maxRunning: 2, maxRunningPerPrincipal: 2 },
          script: {
            execute: (_, sink, execution) =>
              Effect.andThen(Deferred.await(gate), ScriptedQueryDriver.answer({}, sink, execution))
          }
        })
        const b = yield* Shared.start(url, { journal: { instance: "b", beat: "100 millis" } })
        const begun = yield* a.submit(instant)
        // Nothing ends it from here, so it must not run a second time.
        const begunToo = yield* a.submit(instant, { rerun: true })
        const again = yield* a.submit(instant, { rerun: true })
        const waiting = yield* a.submit(instant)
        for (const { id } of [begun, begunToo]) {
          yield* eventually(b.registry.status(alice, id), ({ state }) => state === "Running")
        }
        yield* lapse(url, "a")
        const failed = yield* b.registry.await(alice, begun.id)
        for (const { error } of [failed, yield* b.registry.await(alice, begunToo.id)]) {
          assert.deepInclude(error, { _tag: "QueriesUnavailable", written: "unknown" })
          assert.include(JSON.stringify(error), "whether its statement still runs is not known")
        }
        for (const { id } of [again, waiting]) {
          const record = yield* b.registry.await(alice, id)
          assert.deepInclude(record, { state: "Succeeded", instance: "b" })
        }
        // Now the paused one goes on.
        yield* Deferred.succeed(gate, undefined)
        assert.deepStrictEqual(yield* a.registry.await(alice, begun.id), failed)
        assert.deepStrictEqual(yield* b.registry.status(alice, begun.id), failed)
        assert.deepStrictEqual((yield* b.journal.standing).takenOver, 1)
      })
    )
  )

  it.live("K4 an idempotency key starts one query over all instances and restarts", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        const a = yield* Shared.start(url)
        const b = yield* Shared.start(url)
        const both = Array.from({ length: 20 }, (_, at) =>
          (at % 2 === 0 ? a : b).submit(act({ rows: 1 }), { idempotencyKey: "k" })
        )
        const [first] = yield* Effect.map(Effect.all(both, { concurrency: "unbounded" }), (records) => {
          assert.strictEqual(new Set(records.map(({ id }) => id)).size, 1)
          return records
        })
        const { id } = first ?? assert.fail()
        yield* b.registry.await(alice, id)
        assert.strictEqual((a.log.sent.get(act({ rows: 1 }).sql) ?? 0) + (b.log.sent.get(act({ rows: 1 }).sql) ?? 0), 1)
        yield* a.close
        yield* b.close
        const c = yield* Shared.start(url)
        assert.strictEqual((yield* c.submit(act({ rows: 1 }), { idempotencyKey: "k" })).id, id)
        const { reason } = yield* Effect.flip(c.submit(instant, { idempotencyKey: "k" }))
        assert.deepInclude(reason, { _tag: "IdempotencyConflict", id })
        assert.notStrictEqual((yield* c.submit(instant, { idempotencyKey: "k", principal: "bob" })).id, id)
        yield* ask(url, "update holdfast.queries set expires_at = clock_timestamp() - interval '1 second'")
        yield* c.registry.prune
        assert.deepInclude(yield* c.submit(act({ rows: 1 }), { idempotencyKey: "k" }), { id, state: "Expired" })
      })
    )
  )

  it.live("K5 closing hands over what has not begun and what was undone, and another instance runs it", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        const a = yield* Shared.start(url, { registry: { maxRunning: 1 } })
        const running = yield* a.submit(hang)
        const waiting = yield* a.submit(instant)
        const wanted = yield* a.submit(hang)
        yield* a.registry.cancel(alice, wanted.id)
        yield* a.close
        const b = yield* Shared.start(url, { journal: { beat: "100 millis" } })
        assert.strictEqual((yield* b.registry.await(alice, waiting.id)).state, "Succeeded")
        // Nobody says that this engine undoes what it is cancelled in.
        assert.strictEqual((yield* b.registry.status(alice, running.id)).state, "Canceled")
        assert.strictEqual((yield* b.registry.status(alice, wanted.id)).state, "Canceled")
        yield* b.close
        yield* LedgerRecorder.assertEmpty()
      })
    )
  )

  it.live("the end of a session ends its queries on every instance, in one statement", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        const [a, b] = [yield* Shared.start(url), yield* Shared.start(url)]
        const mine = yield* Effect.forEach([a, b, a, b], ({ submit }) => submit(hang, { session: "s" }))
        const other = yield* b.submit(hang, { session: "t" })
        const ended = yield* a.registry.cancelAll({ session: "s" })
        assert.sameMembers(
          ended.map(({ id }) => id),
          mine.map(({ id }) => id)
        )
        assert.isTrue(ended.every(({ state }) => state === "Canceled"))
        assert.notStrictEqual((yield* a.registry.status(alice, other.id)).state, "Canceled")
        yield* b.registry.cancel(alice, other.id)
      })
    )
  )

  it.live("a principal's waiting queries and keys count over all instances, and lists go over all", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        const registry = { maxRunning: 1, reservedRunning: 0, maxWaitingPerPrincipal: 2, maxKeysPerPrincipal: 1 }
        const [a, b] = [yield* Shared.start(url, { registry }), yield* Shared.start(url, { registry })]
        const all = yield* Effect.forEach([a, b, a, b], ({ submit }) => submit(hang))
        const { reason } = yield* Effect.flip(b.submit(hang))
        assert.deepInclude(reason, { _tag: "QueryRejected", limit: "waitingOfPrincipal", count: 2 })
        const first = yield* a.registry.list(alice, { limit: 3 })
        const second = yield* b.registry.list(alice, { limit: 3, after: first.next })
        assert.deepStrictEqual(
          [...first.queries, ...second.queries].map(({ id }) => id),
          all.map(({ id }) => id).toReversed()
        )
        assert.isUndefined(second.next)
        assert.lengthOf((yield* b.registry.list(alice, { state: "Queued" })).queries, 2)
        yield* a.registry.cancelAll({ principal: alice })
        yield* a.submit(instant, { idempotencyKey: "k" })
        const keys = yield* Effect.flip(b.submit(instant, { idempotencyKey: "l" }))
        assert.deepInclude(keys.reason, { _tag: "QueryRejected", limit: "keysOfPrincipal" })
      })
    )
  )

  it.live("what a principal may keep and what is past its retention goes, with its rows, in bounded steps", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        const a = yield* Shared.start(url, { registry: { maxKeptPerPrincipal: 2 } })
        const ids: Array<string> = []
        for (let count = 0; count < 4; count++) {
          const { id } = yield* a.submit(act({ rows: 2000 }))
          assert.strictEqual((yield* a.registry.await(alice, id)).state, "Succeeded")
          ids.unshift(id)
        }
        yield* a.registry.prune
        assert.deepStrictEqual(
          (yield* a.registry.list(alice)).queries.map(({ id }) => id),
          ids.slice(0, 2)
        )
        const left = yield* ask(url, "select distinct query from holdfast.query_rows")
        assert.sameMembers(left.flat().map(String), ids.slice(0, 2))
      })
    )
  )

  it.live("an older instance's record is readable, and so is one that a newer version wrote", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        const a = yield* Shared.start(url)
        const { id } = yield* a.submit(act({ fails: true }))
        yield* a.registry.await(alice, id)
        yield* ask(url, "alter table holdfast.queries add column later text default 'x'")
        yield* ask(url, `update holdfast.queries set error = '{"_tag":"OfTomorrow","x":1}'`)
        yield* a.registry.prune
        const b = yield* Shared.start(url)
        const record = yield* b.registry.status(alice, id)
        assert.deepInclude(record.error, { _tag: "StatementFailed" })
        assert.strictEqual((yield* b.registry.await(alice, (yield* b.submit(instant)).id)).state, "Succeeded")
        assert.isTrue(Schema.is(Schema.String)(record.instance))
      })
    )
  )
})
