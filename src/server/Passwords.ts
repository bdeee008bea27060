/**
 * Passwords as they are stored: scrypt with a salt of their own, slow on purpose.
 *
 * Cost: N = 2^15, r = 8, p = 3, one of the equivalent settings of the OWASP Password Storage sheet (32 MiB, about a quarter
 * of a second). At most two are computed at a time, so that logins cannot take the processor from everything else; the
 * computing does not hold up the event loop.
 *
 * **Details**
 *
 * What may be chosen is what NIST SP 800-63B, 3.1.1.2 and ASVS 5.0, 6.2 ask for: at least 8 characters, of any kind, and none of
 * the most common passwords. There are no other rules. What was chosen before is not looked at again.
 *
 * A hash of another cost is read as well, and is to be replaced when its password is known. Meanwhile each check computes every
 * cost that is in use, for every user name: else its time would tell users apart.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Semaphore from "effect/Semaphore"
import { Buffer } from "node:buffer"
import { randomBytes, scrypt, timingSafeEqual } from "node:crypto"
import * as CommonPasswords from "./CommonPasswords.ts"

const cost = { N: 2 ** 15, r: 8, p: 3 }
const keyBytes = 32

/** In code points, as NIST SP 800-63B, 3.1.1.2 counts. */
const fewest = 8
/** In bytes of UTF-8. */
const longest = 1024

/** Why somebody may not have a password, to be read after what holds it; `undefined`: they may. */
export const problemOf = (password: Redacted.Redacted): string | undefined => {
  const text = Redacted.value(password)
  const composed = text.normalize("NFC")
  if (Array.from(composed).length < fewest || Buffer.byteLength(text) > longest) {
    return `must hold a password of at least ${fewest} characters and at most 1,024 bytes`
  }
  // What is no UTF-8 in the environment arrives as U+FFFD: many passwords would be one.
  if (!text.isWellFormed() || text.includes("\uFFFD")) return "must be UTF-8"
  return CommonPasswords.includes(composed)
    ? "must not hold one of the most common passwords, because these are tried first. Choose another one"
    : undefined
}

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

const costOf = ({ N, p, r }: typeof cost) => ["scrypt", N, r, p].join("$")
const current = costOf(cost)

const encode = (salt: Buffer, key: Buffer) => [current, salt.toString("base64url"), key.toString("base64url")].join("$")

/** What to store of a password, which is well-formed text: `scrypt$N$r$p$salt$key`. */
export const hash = (password: Redacted.Redacted): Effect.Effect<string> =>
  Effect.suspend(() => {
    if (!Redacted.value(password).isWellFormed())
      return Effect.die(new TypeError("A password must be well-formed text"))
    const salt = randomBytes(16)
    return Effect.map(derive(password, salt, cost, keyBytes), (key) => encode(salt, key))
  })

/** In every hash, up to where its salt begins: what it costs, as a regular expression of PostgreSQL and of JavaScript. */
export const costPattern = "^scrypt[$][0-9]+[$][0-9]+[$][0-9]+"
const costs = /^scrypt\$(\d+)\$(\d+)\$(\d+)$/
const storedPattern = /^(scrypt\$\d+\$\d+\$\d+)\$([\w-]+)\$([\w-]+)$/

/** A password that nobody has, to check against for users that do not exist: it takes the same time. */
export const nobody = encode(randomBytes(16), randomBytes(keyBytes))

/** Whether a hash has the cost that a new one would have. */
export const isCurrent = (stored: string): boolean => storedPattern.exec(stored)?.[1] === current

const parsed = (text: string) => {
  const [, N, r, p] = costs.exec(text) ?? []
  return N === undefined ? undefined : { N: Number(N), r: Number(r), p: Number(p) }
}

/**
 * Whether a password is the stored one. False for anything stored that is not a hash of ours. `inUse` names the costs (see
 * {@link costPattern}) that others' hashes have: it takes the same time for all of them.
 */
export const verify = (
  password: Redacted.Redacted,
  stored: string,
  inUse: ReadonlyArray<string> = []
): Effect.Effect<boolean> =>
  Effect.gen(function* () {
    const [, own = current, salt = "", expected = ""] = storedPattern.exec(stored) ?? []
    const key = expected === "" ? Buffer.alloc(keyBytes) : Buffer.from(expected, "base64url")
    let matches = false
    for (const each of new Set([own, ...inUse].toSorted())) {
      const cost = parsed(each)
      if (cost === undefined) continue
      const derived = yield* derive(password, Buffer.from(salt, "base64url"), cost, key.length)
      if (each === own) matches = expected !== "" && timingSafeEqual(derived, key)
    }
    // Half a surrogate pair is derived as the same bytes as another half: nobody has such a password.
    return matches && Redacted.value(password).isWellFormed()
  })
