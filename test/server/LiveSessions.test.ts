/**
 * How many sessions live, as the metrics tell it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as TestClock from "effect/testing/TestClock"
import * as PgDirect from "../../src/postgres/internal/PgDirect.ts"
import * as PgSessionCount from "../../src/postgres/internal/PgSessionCount.ts"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import * as RedisSessionCount from "../../src/redis/internal/RedisSessionCount.ts"
import * as LiveSessions from "../../src/server/LiveSessions.ts"
import { create, session } from "../../src/testing/internal/SessionSamples.ts"
import { freshDatabase } from "../support/postgres.ts"
import { redisWorld } from "../support/redisSessions.ts"

const near = (found: number, wanted: number) => assert.approximately(found, wanted, wanted / 2)

describe("the live sessions of a store", () => {
  it.live("PostgreSQL counts those that live and no others, and estimates where they are very many", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      yield* PgSessionStore.migrate({ url })
      const connection = yield* PgConnection.make({ url })
      const count = (blocks?: number) =>
        Effect.provide(PgSessionCount.read("holdfast", blocks), PgDirect.layer("sessions", { url, maxConnections: 1 }))
      assert.strictEqual(yield* count(), 0)
      const insert = (name: string, some: number, seen: string, expires: string, ended = "null") =>
        connection.query(
          `insert into holdfast.sessions (id, data, data_version, version, device, created_at, last_seen_at, idle_timeout,
             renew_every, expires_at, ended_at, end_reason)
           select '${name}' || n, '{}', 1, 1, '{}', now(), now() - interval '${seen}', interval '30 minutes',
             interval '1 hour', now() + interval '${expires}', ${ended}, ${ended === "null" ? "null" : "'revoked'"}
           from generate_series(1, ${some}) n`
        )
      yield* insert("live", 3, "1 minute", "1 hour")
      yield* insert("idle", 4, "40 minutes", "1 hour")
      yield* insert("old", 5, "1 minute", "-1 minute")
      yield* insert("ended", 6, "1 minute", "1 hour", "now()")
      assert.strictEqual(yield* count(), 3)
      yield* insert("more", 6000, "1 minute", "1 hour")
      near(yield* count(110), 6003)
    }).pipe(Effect.scoped)
  )

  it.live("Redis counts those that live and no others, and estimates where they are very many", () =>
    Effect.gen(function* () {
      const { advance, prefix, store, url } = yield* redisWorld
      // All of them are looked at: of more than it looks at, the count is an estimate.
      const count = yield* RedisSessionCount.make({ url, prefix, sessions: 400 })
      assert.strictEqual(yield* count, 0)
      const many = (some: number, idleTimeout: Duration.Duration) =>
        Effect.forEach(
          Array.from({ length: some }),
          (_, index) => create(store, session({ principal: `user ${index}`, idleTimeout })),
          { concurrency: 64 }
        )
      const [ended] = yield* many(4, Duration.hours(2))
      yield* many(5, Duration.minutes(10))
      assert.strictEqual(yield* count, 9)
      yield* store.revoke((ended ?? assert.fail()).id)
      yield* advance("30 minutes")
      assert.strictEqual(yield* count, 3)
      yield* many(320, Duration.hours(2))
      assert.strictEqual(yield* count, 323)
      near(yield* Effect.flatten(RedisSessionCount.make({ url, prefix, blocks: 2, sessions: 50 })), 323)
    }).pipe(Effect.scoped)
  )

  it.effect("are counted once a minute, and told by nobody while the store does not answer", () =>
    Effect.gen(function* () {
      const counts = [Effect.succeed(7), Effect.fail("away"), Effect.succeed(8)]
      let asked = 0
      const next = Effect.suspend(() => counts[asked++] ?? Effect.never)
      const told = Effect.map(PrometheusMetrics.format(), (text) => /^holdfast_sessions_live (\d+)$/m.exec(text)?.[1])
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* LiveSessions.watch(next)
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual([asked, yield* told], [1, "7"])
          yield* TestClock.adjust("58 seconds")
          assert.deepStrictEqual([asked, yield* told], [1, "7"])
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual([asked, yield* told], [2, undefined])
          yield* TestClock.adjust("2 seconds")
          assert.deepStrictEqual([asked, yield* told], [3, "8"])
        })
      )
      assert.isUndefined(yield* told)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})
