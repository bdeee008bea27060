/**
 * Passwords as they are stored: scrypt with a salt of their own, slow on purpose.
 *
 * Cost: N = 2^15, r = 8, p = 3, one of the equivalent settings of the OWASP Password Storage sheet (32 MiB, about a quarter
 * of a second). At most two are computed at a time, so that logins cannot take the processor from everything else; the
 * computing does not hold up the event loop.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Semaphore from "effect/Semaphore"
import { Buffer } from "node:buffer"
import { randomBytes, scrypt, timingSafeEqual } from "node:crypto"

const cost = { N: 2 ** 15, r: 8, p: 3 }
const keyBytes = 32
const turn = Semaphore.makeUnsafe(2)

const derive = (password: Redacted.Redacted, salt: Buffer, { N, p, r }: typeof cost, length: number) =>
  // The turn is over when the computing is: it cannot be stopped, so a caller that gives up leaves it to a fiber of its own.
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.forkDetach(
        turn.withPermit(
          Effect.uninterruptible(
            Effect.callback<Buffer>((resume) => {
              const options = { N, r, p, maxmem: 256 * N * r }
              scrypt(Redacted.value(password).normalize("NFC"), salt, length, options, (error, key) =>
                resume(error === null ? Effect.succeed(key) : Effect.die(error))
              )
            })
          )
        )
      ),
      (fiber) => Effect.onInterrupt(restore(Fiber.join(fiber)), () => Effect.forkDetach(Fiber.interrupt(fiber)))
    )
  )

const encode = (salt: Buffer, key: Buffer) =>
  ["scrypt", cost.N, cost.r, cost.p, salt.toString("base64url"), key.toString("base64url")].join("$")

/** What to store of a password, which is well-formed text: `scrypt$N$r$p$salt$key`. */
export const hash = (password: Redacted.Redacted): Effect.Effect<string> =>
  Effect.suspend(() => {
    if (!Redacted.value(password).isWellFormed())
      return Effect.die(new TypeError("A password must be well-formed text"))
    const salt = randomBytes(16)
    return Effect.map(derive(password, salt, cost, keyBytes), (key) => encode(salt, key))
  })

const storedPattern = /^scrypt\$(\d+)\$(\d+)\$(\d+)\$([\w-]+)\$([\w-]+)$/

/** A password that nobody has, to check against for users that do not exist: it takes the same time. */
export const nobody = encode(randomBytes(16), randomBytes(keyBytes))

/** Whether a password is the stored one. False for anything stored that is not a hash of ours. */
export const verify = (password: Redacted.Redacted, stored: string): Effect.Effect<boolean> =>
  Effect.suspend(() => {
    const match = storedPattern.exec(stored)
    if (match === null) return Effect.succeed(false)
    const [, N, r, p, salt = "", expected = ""] = match
    const key = Buffer.from(expected, "base64url")
    return Effect.map(
      derive(password, Buffer.from(salt, "base64url"), { N: Number(N), r: Number(r), p: Number(p) }, key.length),
      // Half a surrogate pair is derived as the same bytes as another half: nobody has such a password.
      (derived) => timingSafeEqual(derived, key) && Redacted.value(password).isWellFormed()
    )
  })
