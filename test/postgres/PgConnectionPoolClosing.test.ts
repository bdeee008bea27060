import { assert, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Scope from "effect/Scope"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import { ConnectionSource } from "../../src/connection/ConnectionSource.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as SkewedClock from "../../src/testing/SkewedClock.ts"
import { busyBackends, eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"

it.live(
  "a statement that gets no answer has its connection killed in time, also when its pool and its source close",
  () =>
    Effect.gen(function* () {
      const { name, url } = yield* freshDatabase
      const { hostname, port } = new URL(Redacted.value(url))
      const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
      const scope = yield* Scope.make()
      const [closingMillis, exit] = yield* SkewedClock.fast(
        20,
        Effect.gen(function* () {
          // In one scope.
          const source = yield* PgConnectionSource.make({
            url: proxy.through(url),
            connectTimeout: "1 minute",
            statementTimeout: "10 seconds"
          })
          const pool = yield* ConnectionPool.make({ closeTimeout: "2 minutes", acquireTimeout: "2 minutes" }).pipe(
            Effect.provideService(ConnectionSource, source)
          )
          const statement = yield* Effect.flatMap(pool.lease(), ({ sql }) =>
            Effect.flatMap(sql, (sql) => sql`select pg_sleep(60)`)
          ).pipe(Effect.scoped, Effect.exit, Effect.forkDetach({ startImmediately: true }))
          yield* eventually(busyBackends(name), (busy) => busy.length === 1, "1 minute")
          yield* proxy.freeze
          // The server ends it after ten seconds, and nobody hears of it; five seconds later it is given up.
          const [closing] = yield* Effect.timed(Scope.close(scope, Exit.void))
          return [Duration.toMillis(closing), yield* Fiber.join(statement)] as const
        }).pipe(Scope.provide(scope))
      )
      assert.isTrue(Exit.isFailure(exit))
      assert.isBelow(closingMillis, 60_000)
      yield* LedgerRecorder.assertEmpty()
    }).pipe(Effect.scoped, Effect.provide([Reactivity.layer, Layer.fresh(Ledger.layer)]))
)
