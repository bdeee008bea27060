import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as PgTokenRepository from "../../src/postgres/PgTokenRepository.ts"
import { makeMemory } from "../../src/token/TokenRepository.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as TokenRepositoryLaws from "../../src/testing/TokenRepositoryLaws.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"
import { keyOf, keys, tokenDatabase } from "../support/tokens.ts"
import { claim, replace, replacement } from "../../src/testing/internal/TokenSamples.ts"

TokenRepositoryLaws.run(
  Layer.effect(
    TokenRepositoryLaws.World,
    Effect.map(makeMemory, (repository) => ({ one: repository, other: repository }))
  ),
  { name: "the memory repository" }
)

TokenRepositoryLaws.run(
  Layer.effect(
    TokenRepositoryLaws.World,
    Effect.flatMap(tokenDatabase, (url) =>
      Effect.all({ one: PgTokenRepository.make({ url, keys }), other: PgTokenRepository.make({ url, keys }) })
    )
  ),
  { name: "PgTokenRepository" }
)

describe("PgTokenRepository", () => {
  it.live("a table that is dumped shows no token", () =>
    Effect.gen(function* () {
      const url = yield* tokenDatabase
      const repository = yield* PgTokenRepository.make({ url, keys })
      yield* replace(repository, "alice", replacement("Secret-access", "Secret-refresh"))
      const connection = yield* PgConnection.make({ url })
      const [row] = yield* connection.queryValues("select t::text, encode(sealed, 'escape') from holdfast.tokens t")
      assert.notInclude(JSON.stringify(row), "Secret")
      assert.notInclude(JSON.stringify(row), Buffer.from("Secret").toString("hex"))
    }).pipe(Effect.scoped)
  )

  it.live(
    "a row that was moved to another tenant, or whose key is gone, is absent, is logged, and can be replaced",
    () =>
      Effect.gen(function* () {
        const url = yield* tokenDatabase
        const repository = yield* PgTokenRepository.make({ url, keys })
        const connection = yield* PgConnection.make({ url })
        yield* replace(repository, "alice", replacement("Secret-access", "Secret-refresh"))
        yield* connection.query(
          "insert into holdfast.tokens select 'bob', version, sealed, obtained_at, access_until, refresh_until from holdfast.tokens"
        )
        const lines: Array<string> = []
        const logger = Logger.make(({ message }) => lines.push(JSON.stringify(message)))
        yield* Effect.gen(function* () {
          assert.deepStrictEqual(yield* repository.get("bob"), { version: 1, access: undefined, refresh: undefined })
          assert.isDefined((yield* repository.get("alice")).access)
          const other = yield* PgTokenRepository.make({ url, keys: [keyOf("k2", 2)] })
          assert.isUndefined((yield* other.get("alice")).access)
          assert.strictEqual(yield* replace(other, "alice", replacement("a2")), 2)
          const both = yield* PgTokenRepository.make({ url, keys: [...keys, keyOf("k2", 2)] })
          assert.isDefined((yield* both.get("alice")).access)
        }).pipe(Effect.provide(Logger.layer([logger])))
        assert.lengthOf(lines, 3)
        for (const line of lines) assert.match(line, /cannot be decrypted/)
      }).pipe(Effect.scoped)
  )

  it.live("instances that start together make the table once", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      yield* Effect.all(
        Array.from({ length: 5 }, () => PgTokenRepository.migrate({ url, keys })),
        { concurrency: "unbounded" }
      )
      yield* PgTokenRepository.migrate({ url, keys })
      const repository = yield* PgTokenRepository.make({ url, keys })
      assert.strictEqual((yield* repository.get("alice")).version, 0)
    }).pipe(Effect.scoped)
  )

  it.live("a database that cannot be reached, or has no table, is RefreshFailed and names no password", () =>
    Effect.gen(function* () {
      const away = yield* PgTokenRepository.make({ url: Redacted.make("postgres://u:Secret@127.0.0.1:1/db"), keys })
      const { url } = yield* freshDatabase
      const empty = yield* PgTokenRepository.make({ url, keys })
      for (const repository of [away, empty]) {
        const error = yield* Effect.flip(repository.get("alice"))
        assert.strictEqual(error.reason._tag, "RefreshFailed")
        assert.notInclude(error.message, "Secret")
      }
      assert.match((yield* Effect.flip(away.get("alice"))).message, /postgresql:\/\/127.0.0.1:1\/db.*ECONNREFUSED/)
    }).pipe(Effect.scoped)
  )

  it.live("what makes no sense is refused when it is made, and named without the password", () =>
    Effect.gen(function* () {
      const url = Redacted.make("postgres://u:Secret@127.0.0.1:1/db")
      const wrong: Record<string, ReadonlyArray<Partial<PgTokenRepository.Options>>> = {
        url: [
          "Secret",
          "http://u:Secret@h/db",
          "postgres://u:Secret@h:99999/db",
          "postgres://u:Secret100%@h/db",
          "postgres://u:Secret@h/a%00b",
          "postgres://u:Secret@h/db?sslmode=Secret"
        ].map((text) => ({
          url: Redacted.make(text)
        })),
        maxConnections: [{ maxConnections: 0 }, { maxConnections: 1.5 }],
        operationTimeout: [
          { operationTimeout: "soon" as "1 second" },
          { operationTimeout: 0 },
          { operationTimeout: "30 days" }
        ],
        schema: [{ schema: 'x"; drop' }]
      }
      for (const [field, all] of Object.entries(wrong)) {
        for (const options of all) {
          const error = yield* Effect.flip(PgTokenRepository.make({ url, keys, ...options }))
          assert.deepInclude(error.reason, { _tag: "InvalidConfig", field })
          assert.notInclude(error.message, "Secret")
        }
      }
    }).pipe(Effect.scoped)
  )

  it.live("a network that is gone is reported within the limit, and the end does not wait for it", () =>
    Effect.gen(function* () {
      const url = yield* tokenDatabase
      const proxy = yield* FaultProxy.to(url)
      let began = 0
      yield* Effect.gen(function* () {
        const behind = { url: proxy.url, keys, operationTimeout: "500 millis" } as const
        const repository = yield* PgTokenRepository.make(behind)
        // A busy machine may take longer than the limit to open the connection.
        yield* eventually(Effect.exit(repository.get("alice")), Exit.isSuccess)
        yield* repository.lock("alice", claim("first", 0))
        began = performance.now()
        yield* proxy.silence
        const error = yield* Effect.flip(repository.put("alice", "first", replacement("a1")))
        assert.strictEqual(error.reason._tag, "RefreshFailed")
        const waiting = yield* Effect.forkChild(repository.get("alice"), { startImmediately: true })
        yield* Fiber.interrupt(waiting)
      }).pipe(Effect.scoped)
      assert.isBelow(performance.now() - began, 4500)
      // The account keeps what stalled until the driver has given up its cancel, which takes it five seconds.
      yield* eventually(Effect.exit(LedgerRecorder.assertEmpty()), Exit.isSuccess, "15 seconds")
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )
})
