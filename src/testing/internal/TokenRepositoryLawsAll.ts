/** The laws of token repositories, in real time: the clock of a repository is its own. */
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { BadResponse, type ClientError, RefreshFailed, TokenRefused } from "../../client/ClientError.ts"
import type { Failure } from "../../token/TokenRepository.ts"
import { eventually } from "./Eventually.ts"
import type { Law } from "./Laws.ts"
import { claim, plain, replace, replacement, type Repository } from "./TokenSamples.ts"

interface Instances {
  readonly one: Repository
  readonly other: Repository
}

const law = (
  name: string,
  trial: (instances: Instances) => Effect.Effect<unknown, unknown, Scope.Scope>
): Law<Instances, never> => ({ name, needs: [], trial })

export const laws = [
  law(
    "S15 keys and tokens come back as they were given, and a key that some store would change is refused",
    ({ one, other }) =>
      Effect.gen(function* () {
        const texts = [
          "\ufffd",
          "\u{1F600}",
          "e\u0301",
          "\u00e9",
          "*",
          "a:b",
          " a ",
          "\n",
          "\ud800",
          "\udbff",
          "a\0b",
          '"',
          "\\ud800"
        ]
        const keys = texts.filter((text) => text.isWellFormed() && !text.includes("\0"))
        for (const key of keys) {
          for (const text of texts) yield* replace(one, key, replacement(`${key} ${text}`, text))
        }
        const last = texts.at(-1) ?? ""
        for (const key of keys) {
          const { access, refresh } = plain(yield* other.get(key))
          assert.deepStrictEqual([access, refresh], [`${key} ${last}`, last], JSON.stringify(key))
        }
        for (const text of texts) {
          yield* replace(one, "text", replacement(text, text))
          const { access, refresh } = plain(yield* other.get("text"))
          assert.deepStrictEqual([access, refresh], [text, text], JSON.stringify(text))
        }
        for (const key of ["\ud800", "a\udbff", "a\0b", "", "x".repeat(201)]) {
          const operations: ReadonlyArray<Effect.Effect<unknown, ClientError>> = [
            one.get(key),
            one.lock(key, claim("me", 0)),
            one.put(key, "me", replacement("a")),
            one.unlock(key, "me"),
            one.invalidate(key, 1)
          ]
          for (const operation of operations) {
            assert.strictEqual((yield* Effect.flip(operation)).reason._tag, "InvalidConfig", JSON.stringify(key))
          }
        }
      })
  ),

  law("what was put is read back by any instance, under its key and no other", ({ one, other }) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(plain(yield* one.get("alice")), {
        version: 0,
        access: undefined,
        isGood: false,
        refresh: undefined
      })
      assert.strictEqual(yield* replace(one, "alice", replacement("a1", "r1")), 1)
      const kept = yield* other.get("alice")
      assert.deepStrictEqual(plain(kept), { version: 1, access: "a1", isGood: true, refresh: "r1" })
      assert.isAtMost(kept.access?.validForMillis ?? 0, 3_600_000)
      assert.isAtLeast(kept.access?.validForMillis ?? 0, 3_590_000)
      assert.strictEqual(yield* replace(other, "alice", replacement("a2")), 2)
      assert.deepStrictEqual(plain(yield* one.get("alice")), {
        version: 2,
        access: "a2",
        isGood: true,
        refresh: undefined
      })
      assert.strictEqual((yield* one.get("bob")).version, 0)
    })
  ),

  law("of fifty who want the lock, one has it", ({ one, other }) =>
    Effect.gen(function* () {
      const attempts = yield* Effect.forEach(
        Array.from({ length: 50 }, (_, index) => index),
        (index) => (index % 2 === 0 ? one : other).lock("alice", claim(`owner ${index}`, 0)),
        { concurrency: "unbounded" }
      )
      assert.lengthOf(
        attempts.filter(({ _tag }) => _tag === "Locked"),
        1
      )
      const busy = attempts.flatMap((attempt) => (attempt._tag === "Busy" ? [attempt.forMillis] : []))
      assert.lengthOf(busy, 49)
      for (const millis of busy) assert.isTrue(millis > 50_000 && millis <= 60_000)
    })
  ),

  law("a caller that knows only an older token does not get the lock", ({ one, other }) =>
    Effect.gen(function* () {
      yield* replace(one, "alice", replacement("a1"))
      assert.strictEqual((yield* other.lock("alice", claim("late", 0)))._tag, "Changed")
      assert.strictEqual((yield* other.lock("alice", claim("in time", 1)))._tag, "Locked")
    })
  ),

  law("a lock that is over goes to another, and what its late holder brings is thrown away", ({ one, other }) =>
    Effect.gen(function* () {
      yield* one.lock("alice", claim("slow", 0, "100 millis"))
      yield* eventually(other.lock("alice", claim("next", 0)), ({ _tag }) => _tag === "Locked")
      assert.isUndefined(yield* one.put("alice", "slow", replacement("late")))
      yield* one.unlock("alice", "slow")
      assert.strictEqual((yield* one.lock("alice", claim("third", 0)))._tag, "Busy")
      assert.strictEqual(yield* other.put("alice", "next", replacement("a1")), 1)
      assert.isUndefined(yield* one.put("alice", "slow", replacement("late")))
      assert.strictEqual(plain(yield* one.get("alice")).access, "a1")
    })
  ),

  law("a lock that was given back is free at once", ({ one, other }) =>
    Effect.gen(function* () {
      yield* one.lock("alice", claim("first", 0))
      yield* one.unlock("alice", "first")
      assert.strictEqual((yield* other.lock("alice", claim("next", 0)))._tag, "Locked")
    })
  ),

  law("a failure is told to all for the time of the pause, and forgotten with it", ({ one, other }) =>
    Effect.gen(function* () {
      const origin = "https://example.com"
      const failures: ReadonlyArray<Failure> = [
        new TokenRefused({ origin, status: 400, code: "invalid_grant" }),
        new TokenRefused({ origin, status: 403, code: undefined }),
        new RefreshFailed({ origin, problem: "it answered 503", last: undefined }),
        new RefreshFailed({ origin, problem: "no answer", last: { ageMillis: 10.5, validForMillis: -1 } }),
        new BadResponse({ origin, problem: "it is not JSON" })
      ]
      // Opening a connection may take as long as the pause.
      yield* other.get("alice")
      for (const [index, failure] of failures.entries()) {
        const key = `alice ${index}`
        yield* one.lock(key, claim("first", 0))
        yield* one.unlock(key, "first", { failure, length: Duration.seconds(1) })
        const attempt = yield* other.lock(key, claim("next", 0))
        if (attempt._tag !== "Paused") return assert.fail(attempt._tag)
        assert.deepStrictEqual(attempt.failure, failure)
        assert.isTrue(attempt.forMillis > 0 && attempt.forMillis <= 1000)
        yield* eventually(other.lock(key, claim("later", 0)), ({ _tag }) => _tag === "Locked")
        yield* other.put(key, "later", replacement("a1"))
        assert.strictEqual((yield* one.lock(key, claim("again", 1)))._tag, "Locked")
      }
    })
  ),

  law("only the version that was found bad is bad, and its refresh token is still good", ({ one, other }) =>
    Effect.gen(function* () {
      yield* replace(one, "alice", replacement("a1", "r1"))
      yield* other.invalidate("alice", 1)
      assert.deepStrictEqual(plain(yield* one.get("alice")), {
        version: 1,
        access: "a1",
        isGood: false,
        refresh: "r1"
      })
      yield* replace(one, "alice", replacement("a2", "r2"))
      yield* other.invalidate("alice", 1)
      assert.isTrue(plain(yield* one.get("alice")).isGood)
      yield* one.invalidate("nobody", 1)
    })
  ),

  law("who took the place of a token that was found bad is known as that, and no later one", ({ one, other }) =>
    Effect.gen(function* () {
      const isSecondTry = Effect.map(other.get("alice"), ({ access }) => access?.isSecondTry)
      yield* replace(one, "alice", replacement("a1"))
      assert.strictEqual(yield* isSecondTry, false)
      yield* other.invalidate("alice", 1)
      assert.strictEqual(yield* isSecondTry, false)
      yield* replace(one, "alice", replacement("a2"))
      assert.strictEqual(yield* isSecondTry, true)
      yield* replace(one, "alice", replacement("a3"))
      assert.strictEqual(yield* isSecondTry, false)
    })
  ),

  law("what never expires is good without an end", ({ one, other }) =>
    Effect.gen(function* () {
      yield* replace(one, "alice", replacement("a1", "r1", "Infinity"))
      const { access, refresh } = yield* other.get("alice")
      assert.strictEqual(access?.validForMillis, Infinity)
      assert.isDefined(refresh)
    })
  ),

  law("a lifetime counts from when the lock was taken", ({ one }) =>
    Effect.gen(function* () {
      yield* one.lock("alice", claim("slow", 0))
      const began = performance.now()
      yield* Effect.repeat(Effect.yieldNow, { until: () => performance.now() - began > 60 })
      yield* one.put("alice", "slow", replacement("a1", "r1", "50 millis"))
      const { access, refresh } = yield* one.get("alice")
      assert.strictEqual(access?.validForMillis, 0)
      assert.isAtLeast(access?.ageMillis ?? 0, 60)
      assert.isDefined(refresh)
    })
  ),

  law("that of a refresh token, too", ({ one }) =>
    Effect.gen(function* () {
      yield* one.lock("alice", claim("slow", 0))
      const began = performance.now()
      yield* Effect.repeat(Effect.yieldNow, { until: () => performance.now() - began > 60 })
      const refresh = { value: Redacted.make("r1"), lifetime: Duration.millis(50) }
      yield* one.put("alice", "slow", { ...replacement("a1"), refresh })
      assert.isUndefined((yield* one.get("alice")).refresh)
    })
  ),

  law("a refresh token that stays is good for as long as it was", ({ one, other }) =>
    Effect.gen(function* () {
      yield* other.get("alice")
      const lifetime = Duration.seconds(2)
      const refresh = { value: Redacted.make("r1"), lifetime }
      yield* replace(one, "alice", { ...replacement("a1"), refresh })
      yield* replace(one, "alice", { ...replacement("a2"), refresh: { ...refresh, lifetime: undefined } })
      const kept = yield* other.get("alice")
      assert.strictEqual(kept.refresh && Redacted.value(kept.refresh), "r1")
      const later = yield* eventually(other.get("alice"), ({ refresh }) => refresh === undefined)
      assert.deepStrictEqual(plain(later), { version: 2, access: "a2", isGood: true, refresh: undefined })
    })
  )
]
