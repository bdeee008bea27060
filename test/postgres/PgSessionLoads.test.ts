import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as PgSessionLoads from "../../src/postgres/internal/PgSessionLoads.ts"
import * as SessionMemory from "../../src/session/internal/SessionMemory.ts"
import * as PgSessionRow from "../../src/postgres/internal/PgSessionRow.ts"
import { SessionError, SessionsUnavailable } from "../../src/session/SessionError.ts"
import * as SessionId from "../../src/session/SessionId.ts"
import { Device, SessionRecord } from "../../src/session/SessionRecord.ts"
import type { TokenHash } from "../../src/session/SessionToken.ts"
import * as TimeLimit from "../../src/lifetime/TimeLimit.ts"
import { newToken, outcome } from "../../src/testing/internal/SessionSamples.ts"

const moment = new Date(0)
const cells = (principal: string) => [
  SessionId.make(),
  principal,
  `{"a":[1,null,"x"],"__proto__":{"b":true}}`,
  1,
  1,
  `{"userAgent":"Firefox","unknown":1}`,
  moment,
  moment,
  moment,
  moment,
  null,
  null
]

/** Nothing is encrypted. */
const open: PgSessionRow.Open = (_, kept) => Result.succeed(kept)

/** Loads over a server that answers when it is told to. The principal of a session is its token. */
const world = Effect.fnUntraced(function* (options: { readonly concurrency?: number } = {}) {
  const asked: Array<ReadonlyArray<TokenHash>> = []
  const answers: Array<Deferred.Deferred<void>> = []
  const late = () => new SessionError({ reason: new SessionsUnavailable({ cause: "late" }) })
  const rows = (tokens: ReadonlyArray<TokenHash>) =>
    Effect.suspend(() => {
      asked.push(tokens)
      const answer = Deferred.makeUnsafe<void>()
      answers.push(answer)
      return Effect.as(
        Deferred.await(answer),
        tokens.map((token) => ["live", false, ...cells(token)] as PgSessionRow.Row)
      )
    })
  const load = yield* PgSessionLoads.make({
    concurrency: options.concurrency ?? 1,
    within: yield* TimeLimit.make(Duration.seconds(3), late),
    find: rows,
    confirm: rows,
    memory: SessionMemory.make(0, () => 0),
    load: rows,
    open,
    settle: () => Effect.die("nothing is owed")
  })
  /** Loads, and waits until every load is under way or waits for another. */
  const begin = Effect.fnUntraced(function* (...tokens: ReadonlyArray<TokenHash>) {
    const fibers: Array<Fiber.Fiber<SessionRecord, SessionError>> = []
    for (const token of tokens) fibers.push(yield* Effect.forkChild(load(token), { startImmediately: true }))
    for (let i = 0; i < 20; i++) yield* Effect.yieldNow
    return fibers
  })
  const answer = Effect.suspend(() => {
    const next = answers.shift()
    return next === undefined ? Effect.die("nothing was asked") : Deferred.succeed(next, undefined)
  })
  return { asked, load, begin, answer }
})

const tokens = (count: number) => Array.from({ length: count }, newToken)
const principals = (fibers: ReadonlyArray<Fiber.Fiber<SessionRecord, SessionError>>) =>
  Effect.forEach(fibers, (fiber) => Effect.map(Fiber.join(fiber), ({ principal }) => principal))

describe("PgSessionLoads", () => {
  it.effect("what begins together travels together, and what arrives meanwhile travels next", () =>
    Effect.gen(function* () {
      const { answer, asked, begin } = yield* world()
      const [a, b, c] = [tokens(20), tokens(1), tokens(30)]
      const first = yield* begin(...a)
      const others = [...(yield* begin(...b)), ...(yield* begin(...c))]
      assert.deepStrictEqual(asked, [a])
      yield* answer
      assert.deepStrictEqual(yield* principals(first), a)
      yield* begin()
      assert.deepStrictEqual(asked, [a, [...b, ...c]])
      yield* answer
      assert.deepStrictEqual(yield* principals(others), [...b, ...c])
    })
  )

  it.effect("loads of one token share one answer until it is asked for", () =>
    Effect.gen(function* () {
      const { answer, asked, begin } = yield* world({ concurrency: 2 })
      const token = newToken()
      const early = yield* begin(token, token, token)
      const late = yield* begin(token)
      assert.deepStrictEqual(asked, [[token], [token]])
      yield* answer
      assert.deepStrictEqual(yield* principals(early), [token, token, token])
      yield* answer
      assert.deepStrictEqual(yield* principals(late), [token])
    })
  )

  it.effect("no batch grows beyond what one statement should fetch", () =>
    Effect.gen(function* () {
      const { asked, begin } = yield* world({ concurrency: 10 })
      yield* begin(...tokens(300))
      assert.deepStrictEqual(
        asked.map(({ length }) => length),
        [128, 128, 44]
      )
    })
  )

  it.effect("whoever gives up its load disturbs nobody, also the one who opened the batch", () =>
    Effect.gen(function* () {
      const { answer, begin } = yield* world()
      const all = tokens(3)
      const [opener, same, other] = yield* begin(all[0] as TokenHash, all[0] as TokenHash, all[1] as TokenHash)
      const waiting = yield* begin(...all)
      for (const fiber of [opener, waiting[0]]) if (fiber !== undefined) yield* Fiber.interrupt(fiber)
      yield* answer
      if (same === undefined || other === undefined) return assert.fail()
      assert.deepStrictEqual(yield* principals([same, other]), all.slice(0, 2))
      yield* begin()
      yield* answer
      assert.deepStrictEqual(yield* principals(waiting.slice(1)), all.slice(1))
    })
  )

  it.effect("S11 every load is over within the limit, also one whose turn never came", () =>
    Effect.gen(function* () {
      const { begin } = yield* world()
      const stuck = yield* begin(newToken())
      yield* TestClock.adjust("1 second")
      const queued = yield* begin(newToken())
      yield* TestClock.adjust("3 seconds")
      for (const fiber of [...stuck, ...queued]) {
        assert.isDefined(fiber.pollUnsafe())
        assert.strictEqual(yield* outcome(Fiber.join(fiber)), "SessionsUnavailable")
      }
    })
  )

  it.effect("closing ends the loads that wait, and those that come later", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { begin } = yield* Scope.provide(world(), scope)
      const waiting = [...(yield* begin(newToken())), ...(yield* begin(newToken()))]
      yield* Scope.close(scope, Exit.void)
      const late = yield* begin(newToken())
      for (const fiber of [...waiting, ...late]) assert.isTrue(Exit.isFailure(yield* Fiber.await(fiber)))
    })
  )
})

describe("PgSessionRow", () => {
  // What the row means, field by field, in the words of the schema.
  const decode = Schema.decodeUnknownResult(
    Schema.Struct({
      ...SessionRecord.fields,
      data: Schema.fromJsonString(Schema.Json),
      device: Schema.fromJsonString(Device),
      createdAt: Schema.DateTimeUtcFromDate,
      lastSeenAt: Schema.DateTimeUtcFromDate,
      idleExpiresAt: Schema.DateTimeUtcFromDate,
      expiresAt: Schema.DateTimeUtcFromDate
    })
  )
  const names =
    "id principal data dataVersion version device createdAt lastSeenAt idleExpiresAt expiresAt renewalNonce actor".split(
      " "
    )
  const named = (row: PgSessionRow.Row) => Object.fromEntries(names.map((name, index) => [name, row[index]]))

  it("S13 a row is read as its schema says, whatever is in any of its cells", () => {
    const good = cells("alice")
    const json = [
      "null",
      "1",
      "1e3",
      "-0",
      "[1e999]",
      `{"a":{"b":[-1e999]}}`,
      `"text"`,
      "[]",
      "{}",
      `{"ip":7}`,
      `{"ip":"1"}`,
      `{"ip":null}`,
      `{"ip":"1","userAgent":"x"}`,
      "{",
      ""
    ]
    const values = [null, undefined, "", "s_", SessionId.make(), "x", true, 0, -1, 1.5, 2 ** 53, Number.NaN, [], {}]
    const dates = [new Date(), new Date(8.64e15), new Date(Number.NaN), Infinity, -Infinity, new Date().toISOString()]
    for (const [index, name] of names.entries()) {
      for (const value of [...values, ...json, ...dates]) {
        const row = good.with(index, value as string)
        const expected = decode(named(row))
        const got = PgSessionRow.record(row, open)
        if (Result.isSuccess(expected)) {
          assert.deepStrictEqual(Result.getOrThrow(got), expected.success, `${name} ${String(value)}`)
        } else {
          assert.isTrue(Result.isFailure(got), `${name} ${String(value)}`)
          if (Result.isFailure(got)) assert.include(got.failure.message, ` has an unexpected ${name}`)
        }
      }
    }
    const { createdAt, device } = Result.getOrThrow(PgSessionRow.record(good, open))
    assert.deepStrictEqual(device, { userAgent: "Firefox" })
    assert.isTrue(DateTime.isDateTime(createdAt))
  })

  it("an answer that is not there is not a session that is not there", () => {
    const [, second] = PgSessionRow.inPlace([["missing", null, ...cells("x").map(() => null), 0]])
    const loaded = PgSessionRow.loaded(second, open)
    assert.strictEqual(Result.isFailure(loaded) && loaded.failure.reason._tag, "SessionUndecodable")
  })
})
