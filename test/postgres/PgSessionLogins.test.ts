import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import { eventually } from "../support/conditions.ts"
import { pgWorld } from "../support/sessions.ts"
import { session } from "../../src/testing/internal/SessionSamples.ts"

const names = (count: number) => Array.from({ length: count }, (_, index) => `user-${index}`)

/** How many sessions of each principal are not ended. */
const live = ({ connection }: Effect.Success<typeof pgWorld>) =>
  Effect.map(
    connection.queryValues(
      "select principal, count(*)::int from holdfast.sessions where ended_at is null and principal is not null group by 1"
    ),
    (rows) => new Map(rows.map(([principal, count]) => [String(principal), count]))
  )

describe("PgSessionLogins", () => {
  it.live("logins of concurrent requests travel together, however few the connections, visitors among them", () =>
    Effect.gen(function* () {
      const world = yield* pgWorld
      const principals = [...names(200), ...Array.from({ length: 20 }, () => null)]
      const made = yield* Effect.forEach(
        principals,
        (principal, index) =>
          world.store.create(session({ principal, actor: index % 7 === 0 ? "operator" : undefined, data: { index } })),
        { concurrency: "unbounded" }
      )
      for (const [index, { displaced, record }] of made.entries()) {
        assert.deepInclude(record, {
          principal: principals[index] ?? null,
          actor: index % 7 === 0 ? "operator" : null,
          data: { index }
        })
        assert.deepStrictEqual(displaced, [])
      }
      // A row says which transaction wrote it.
      const [row] = yield* world.connection.queryValues(
        "select count(distinct xmin::text)::int, count(*)::int from holdfast.sessions"
      )
      assert.strictEqual(row?.[1], principals.length)
      assert.isAtMost(Number(row?.[0]), 20)
    }).pipe(Effect.scoped)
  )

  it.live("S8 each makes room among the sessions of its own principal, also when many of one log in at once", () =>
    Effect.gen(function* () {
      const world = yield* pgWorld
      const login = (principal: string) => world.store.create(session({ principal, maxPerPrincipal: 2 }))
      const principals = names(20)
      const first = yield* Effect.forEach(principals, login, { concurrency: "unbounded" })
      yield* Effect.forEach(principals, login, { concurrency: "unbounded" })
      const third = yield* Effect.forEach(principals, login, { concurrency: "unbounded" })
      for (const [index, { displaced }] of third.entries()) {
        assert.deepStrictEqual<ReadonlyArray<unknown>>(displaced, [first[index]?.record.id])
      }
      yield* Effect.forEach([...principals, ...principals, ...names(3), ...names(3)], login, {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(yield* live(world), new Map(principals.map((name) => [name, 2])))
    }).pipe(Effect.scoped)
  )

  it.live("I1 a login whose principal is locked by somebody else holds up nobody else's, and is made afterwards", () =>
    Effect.gen(function* () {
      const world = yield* pgWorld
      const login = (principal: string) => world.store.create(session({ principal }))
      const [locked, ...others] = names(40)
      if (locked === undefined) return yield* Effect.die("no name")
      yield* login(locked)
      yield* world.blocker.query("begin")
      yield* world.blocker.query("select from holdfast.principals where principal = $1 for update", [locked])
      const waiting = yield* Effect.forkChild(login(locked), { startImmediately: true })
      yield* Effect.forEach(others, login, { concurrency: "unbounded" })
      yield* eventually(
        world.connection.queryValues(
          "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        ),
        (rows) => rows.length === 1
      )
      yield* Effect.forEach(others, login, { concurrency: "unbounded" })
      assert.isUndefined(waiting.pollUnsafe())
      yield* world.blocker.query("commit")
      assert.strictEqual((yield* Fiber.join(waiting)).record.principal, locked)
    }).pipe(Effect.scoped)
  )

  it.live("what is refused is refused alone: a token that is taken, and a login from before a revocation", () =>
    Effect.gen(function* () {
      const world = yield* pgWorld
      const { store } = world
      const epoch = yield* store.epoch("user-1")
      yield* store.revokeAll("user-1")
      const taken = session({ principal: "owner" })
      yield* store.create(taken)
      const outcomes = yield* Effect.forEach(
        names(10),
        (principal, index) =>
          Effect.result(
            store.create(
              index === 0
                ? { ...session({ principal }), token: taken.token }
                : session({ principal, ...(index === 1 && { epoch }) })
            )
          ),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        outcomes.map((one) => (Result.isFailure(one) ? one.failure.reason._tag : one.success.record.principal)),
        ["SessionTokenTaken", "SessionRevoked", ...names(10).slice(2)]
      )
    }).pipe(Effect.scoped)
  )
})
