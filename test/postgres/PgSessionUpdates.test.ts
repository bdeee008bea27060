import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import { eventually } from "../support/conditions.ts"
import { pgWorld } from "../support/sessions.ts"
import { session } from "../../src/testing/internal/SessionSamples.ts"

const sessionsOf = (world: Effect.Success<typeof pgWorld>, count: number) =>
  Effect.forEach(
    Array.from({ length: count }),
    () =>
      Effect.map(world.store.create(session({ principal: null })), ({ record: { id, version } }) => ({ id, version })),
    { concurrency: 32 }
  )

describe("PgSessionUpdates", () => {
  it.live("changes of concurrent requests travel together, however few the connections", () =>
    Effect.gen(function* () {
      const world = yield* pgWorld
      const sessions = yield* sessionsOf(world, 200)
      const changed = yield* Effect.forEach(
        sessions,
        ({ id, version }, index) => world.store.update({ id, version, data: { index }, dataVersion: 7 }),
        { concurrency: "unbounded" }
      )
      for (const [index, record] of changed.entries()) {
        const { id, version } = sessions[index] ?? (yield* Effect.die("no session"))
        assert.deepInclude(record, { id, version: version + 1, data: { index }, dataVersion: 7 })
      }
      // A row says which transaction wrote it.
      const [row] = yield* world.connection.queryValues(
        "select count(distinct xmin::text)::int, count(*)::int from holdfast.sessions where data_version = 7"
      )
      assert.strictEqual(row?.[1], 200)
      assert.isAtMost(Number(row?.[0]), 10)
    }).pipe(Effect.scoped)
  )

  it.live(
    "S2 of two changes of one version one takes effect, and the other is told, also when they travel together",
    () =>
      Effect.gen(function* () {
        const world = yield* pgWorld
        const sessions = yield* sessionsOf(world, 20)
        const gone = sessions[0] ?? (yield* Effect.die("no session"))
        yield* world.store.revoke(gone.id)
        const outcomes = yield* Effect.forEach(
          sessions.flatMap((one) => [one, one]),
          ({ id, version }, data) => Effect.result(world.store.update({ id, version, data, dataVersion: 1 })),
          { concurrency: "unbounded" }
        )
        for (const [index, { id }] of sessions.entries()) {
          const two = outcomes.slice(index * 2, index * 2 + 2)
          const refused = two.flatMap((one) => (Result.isFailure(one) ? [one.failure.reason._tag] : []))
          assert.deepStrictEqual(refused, id === gone.id ? ["SessionRevoked", "SessionRevoked"] : ["SessionConflict"])
          const [row] = yield* world.connection.queryValues("select data::text from holdfast.sessions where id = $1", [
            id
          ])
          const kept = two.flatMap((one) => (Result.isSuccess(one) ? [JSON.stringify(one.success.data)] : []))
          if (id !== gone.id) assert.deepStrictEqual([row?.[0]], kept)
        }
      }).pipe(Effect.scoped)
  )

  it.live("a change that waits for whoever writes its session holds up nobody else's, and is made afterwards", () =>
    Effect.gen(function* () {
      const world = yield* pgWorld
      const { blocker, store } = world
      const [first, ...others] = yield* sessionsOf(world, 40)
      if (first === undefined) return yield* Effect.die("no session")
      yield* blocker.query("begin")
      yield* blocker.query("select from holdfast.sessions where id = $1 for update", [first.id])
      const update = ({ id, version }: typeof first) => store.update({ id, version, data: "changed", dataVersion: 1 })
      const waiting = yield* Effect.forkChild(update(first), { startImmediately: true })
      yield* Effect.forEach(others, update, { concurrency: "unbounded" })
      yield* eventually(
        world.connection.queryValues(
          "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        ),
        (rows) => rows.length === 1
      )
      yield* Effect.forEach(others, ({ id, version }) => update({ id, version: version + 1 }), {
        concurrency: "unbounded"
      })
      assert.isUndefined(waiting.pollUnsafe())
      yield* blocker.query("commit")
      assert.strictEqual((yield* Fiber.join(waiting)).version, first.version + 1)
    }).pipe(Effect.scoped)
  )

  it.live(
    "S2 S3 a change that waited is refused when its session was changed, or ended or expired, in the meantime",
    () =>
      Effect.gen(function* () {
        const world = yield* pgWorld
        const sessions = yield* sessionsOf(world, 3)
        const [changed, ended, expiring] = sessions
        yield* world.blocker.query("begin")
        yield* world.blocker.query("update holdfast.sessions set version = 2, data = '\"theirs\"' where id = $1", [
          changed?.id
        ])
        yield* world.blocker.query(
          "update holdfast.sessions set ended_at = now(), end_reason = 'revoked' where id = $1",
          [ended?.id]
        )
        yield* world.blocker.query(
          "update holdfast.sessions set expires_at = clock_timestamp() + interval '1 second' where id = $1",
          [expiring?.id]
        )
        const waiting = yield* Effect.forEach(sessions, ({ id, version }) =>
          Effect.forkChild(Effect.flip(world.store.update({ id, version, data: "mine", dataVersion: 1 })), {
            startImmediately: true
          })
        )
        yield* eventually(
          world.connection.queryValues(
            "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
          ),
          ({ length }) => length === 3
        )
        yield* eventually(
          world.blocker.queryValues(
            "select 1 from holdfast.sessions where id = $1 and expires_at < clock_timestamp()",
            [expiring?.id]
          ),
          ({ length }) => length === 1
        )
        yield* world.blocker.query("commit")
        const refused = yield* Effect.forEach(waiting, (fiber) => Fiber.join(fiber))
        assert.deepStrictEqual(
          refused.map(({ reason }) => reason._tag),
          ["SessionConflict", "SessionRevoked", "SessionExpired"]
        )
        const kept = yield* world.connection.queryValues("select data::text from holdfast.sessions where id = $1", [
          changed?.id
        ])
        assert.deepStrictEqual(kept, [['"theirs"']])
      }).pipe(Effect.scoped)
  )
})
