import { randomBytes, scryptSync } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Passwords from "../../src/server/Passwords.ts"

const secret = Redacted.make("wonderland")

/** A hash as an earlier version would have made it. */
const hashOf = (password: string, N: number) => {
  const salt = randomBytes(16)
  const key = scryptSync(password, salt, 32, { N, r: 8, p: 1 })
  return ["scrypt", N, 8, 1, salt.toString("base64url"), key.toString("base64url")].join("$")
}

describe("passwords", () => {
  it("a new password has 8 characters of any kind, as people count them, and is none of the most common ones", () => {
    for (const password of [
      "a passwo",
      "        ",
      "\u{1F600}".repeat(8),
      "\u00fc".repeat(8),
      "e\u0301".repeat(8),
      "passwordpassword is long",
      "x".repeat(1024)
    ]) {
      assert.isUndefined(Passwords.problemOf(Redacted.make(password)), password)
    }
    for (const [password, problem] of [
      ["", "at least 8 characters"],
      ["seven c", "at least 8 characters"],
      ["\u{1F600}".repeat(7), "at least 8 characters"],
      ["e\u0301".repeat(7), "at least 8 characters"],
      ["x".repeat(1025), "at most 1,024 bytes"],
      ["\ud800".repeat(8), "UTF-8"],
      ["\ufffd".repeat(8), "UTF-8"],
      ["password", "most common"],
      ["PassWord", "most common"],
      ["1234567890", "most common"],
      ["iloveyou", "most common"],
      ["20011980", "most common"]
    ] as const) {
      const said = Passwords.problemOf(Redacted.make(password)) ?? ""
      assert.include(said, problem, password)
      if (password.length > 1 && problem !== "most common") assert.notInclude(said, password)
    }
  })

  it.live("a hash of another cost is read, beside those of others", () =>
    Effect.gen(function* () {
      const old = hashOf("wonderland", 2 ** 12)
      assert.deepStrictEqual([Passwords.isCurrent(old), Passwords.isCurrent(Passwords.nobody)], [false, true])
      for (const inUse of [[], ["scrypt$4096$8$1", "scrypt$1024$8$1"], ["nonsense"]]) {
        assert.isTrue(yield* Passwords.verify(secret, old, inUse))
        assert.isFalse(yield* Passwords.verify(Redacted.make("wunderland"), old, inUse))
      }
    })
  )

  it.live("a password is the stored one, however its letters are composed, and no other is", () =>
    Effect.gen(function* () {
      const stored = yield* Passwords.hash(Redacted.make("caf\u00e9"))
      assert.isTrue(yield* Passwords.verify(Redacted.make("cafe\u0301"), stored))
      assert.isFalse(yield* Passwords.verify(Redacted.make("cafe"), stored))
      assert.isFalse(yield* Passwords.verify(secret, "not a hash"))
      assert.isFalse(yield* Passwords.verify(secret, Passwords.nobody))
      assert.notInclude(stored, "caf")
      assert.notStrictEqual(yield* Passwords.hash(secret), yield* Passwords.hash(secret))
    })
  )

  it.live("who gives up waiting gives up their turn: nobody waits for what nobody wants to know", () =>
    Effect.gen(function* () {
      const stored = yield* Passwords.hash(secret)
      const verify = Passwords.verify(secret, stored)
      const [alone] = yield* Effect.timed(verify)
      // Forty of them would take twenty times as long as one does.
      const many = yield* Effect.forEach(Array.from({ length: 40 }), () =>
        Effect.forkChild(verify, { startImmediately: true })
      )
      yield* Fiber.interruptAll(many)
      const [took, isRight] = yield* Effect.timed(verify)
      assert.isTrue(isRight)
      assert.isBelow(Duration.toMillis(took), Duration.toMillis(alone) * 10)
    })
  )

  it.effect("S15 a password that is no text is nobody's, and cannot be set", () =>
    Effect.gen(function* () {
      const stored = yield* Passwords.hash(Redacted.make("\ufffd"))
      for (const [password, isTheirs] of [
        ["\ufffd", true],
        ["\ud800", false],
        ["\udbff", false]
      ] as const) {
        assert.strictEqual(yield* Passwords.verify(Redacted.make(password), stored), isTheirs)
      }
      assert.isTrue(Exit.hasDies(yield* Effect.exit(Passwords.hash(Redacted.make("\ud800")))))
    })
  )
})
