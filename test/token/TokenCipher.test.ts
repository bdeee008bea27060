import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as TokenCipher from "../../src/token/TokenCipher.ts"
import { keyOf } from "../support/tokens.ts"

const tokens = { access: Redacted.make("Secret-access-ü"), refresh: Redacted.make("Secret-refresh") }
const plain = (tokens: TokenCipher.Tokens | undefined) =>
  tokens && [Redacted.value(tokens.access), tokens.refresh && Redacted.value(tokens.refresh)]

describe("TokenCipher", () => {
  const cipherOf = (...ring: ReadonlyArray<TokenCipher.Key>) => Effect.runSync(TokenCipher.make(ring))
  const cipher = cipherOf(keyOf("new", 2), keyOf("old", 1))

  it("opens what it sealed, with or without a refresh token", () => {
    assert.deepStrictEqual(plain(cipher.open("alice", cipher.seal("alice", tokens))), [
      "Secret-access-ü",
      "Secret-refresh"
    ])
    const alone = cipher.seal("alice", { ...tokens, refresh: undefined })
    assert.deepStrictEqual(plain(cipher.open("alice", alone)), ["Secret-access-ü", undefined])
  })

  it("never seals alike, and shows nothing of what it sealed", () => {
    const [one, other] = [cipher.seal("alice", tokens), cipher.seal("alice", tokens)]
    assert.notDeepEqual(one, other)
    assert.notInclude(Buffer.from(one).toString("latin1"), "Secret")
  })

  it("does not open what belongs to another tenant", () => {
    assert.isUndefined(cipher.open("bob", cipher.seal("alice", tokens)))
  })

  it("does not open what was changed anywhere, cut off, or never sealed", () => {
    const sealed = cipher.seal("alice", tokens)
    for (let at = 0; at < sealed.length; at++) {
      const changed = Uint8Array.from(sealed)
      changed[at] = (changed[at] ?? 0) ^ 1
      assert.isUndefined(cipher.open("alice", changed))
      assert.isUndefined(cipher.open("alice", sealed.slice(0, at)))
    }
  })

  it("does not open what is said to be sealed by another key, though its bytes are the same", () => {
    const twins = cipherOf(keyOf("one", 1), keyOf("two", 1))
    const sealed = twins.seal("alice", tokens)
    const renamed = Buffer.from(sealed)
    renamed.write("two", 2)
    assert.isUndefined(twins.open("alice", renamed))
    assert.isDefined(twins.open("alice", sealed))
  })

  it("opens what an older key of the ring sealed, and seals with the first", () => {
    const before = cipherOf(keyOf("old", 1))
    assert.isDefined(cipher.open("alice", before.seal("alice", tokens)))
    assert.isUndefined(before.open("alice", cipher.seal("alice", tokens)))
    assert.isUndefined(cipherOf(keyOf("new", 3)).open("alice", cipher.seal("alice", tokens)))
  })

  it("says what is wrong with a ring without telling a key", () => {
    const wrong = (ring: ReadonlyArray<TokenCipher.Key>, says: RegExp) =>
      assert.match(Effect.runSync(Effect.flip(TokenCipher.make(ring))).message, says)
    wrong([], /keys are none/)
    wrong([keyOf("a", 1), keyOf("a", 2)], /same id twice/)
    wrong([keyOf("a b", 1)], /an id that is not/)
    wrong([{ id: "short", secret: Redacted.make("c2hvcnQ=") }], /"short", .* 32 bytes in base64.*openssl/)
    wrong([keyOf("fine", 1), { id: "hex", secret: Redacted.make("ab".repeat(32)) }], /"hex"/)
  })
})
