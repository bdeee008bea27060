import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Passwords from "../../src/server/Passwords.ts"

const secret = Redacted.make("wonderland")

describe("passwords", () => {
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
