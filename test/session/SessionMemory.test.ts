import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as SessionMemory from "../../src/session/internal/SessionMemory.ts"
import * as SessionId from "../../src/session/SessionId.ts"
import type { SessionRecord } from "../../src/session/SessionRecord.ts"
import { pgWorld } from "../support/sessions.ts"
import { newToken, session } from "../../src/testing/internal/SessionSamples.ts"

const moment = DateTime.makeUnsafe(0)
const record = (): SessionRecord => ({
  id: SessionId.make(),
  principal: "alice",
  actor: null,
  data: { cart: ["apple"] },
  dataVersion: 1,
  version: 1,
  device: {},
  createdAt: moment,
  lastSeenAt: moment,
  idleExpiresAt: moment,
  expiresAt: moment,
  renewalNonce: null
})

describe("SessionMemory", () => {
  it("remembers for a minute at most, and for half of it at least", () => {
    let now = 0
    const memory = SessionMemory.make(100_000, () => now)
    const token = newToken()
    memory.put(token, { record: record(), stamp: "1" }, 100)
    now = 30_000
    assert.strictEqual(memory.get(token)?.stamp, "1")
    now = 60_001
    memory.get(newToken())
    now = 90_002
    assert.isUndefined(memory.get(token))
  })

  it("keeps within its limit, and nothing that exceeds half of it", () => {
    const memory = SessionMemory.make(10_000, () => 0)
    const all = Array.from({ length: 100 }, newToken)
    for (const token of all) memory.put(token, { record: record(), stamp: "1" }, 500)
    const kept = all.filter((token) => memory.get(token) !== undefined)
    assert.isAbove(kept.length, 0)
    assert.isAtMost(kept.length, 10)
    const large = newToken()
    memory.put(large, { record: record(), stamp: "1" }, 5000)
    assert.isUndefined(memory.get(large))
  })

  it("what many share cannot be changed", () => {
    const memory = SessionMemory.make(100_000, () => 0)
    const { data, ...rest } = record()
    memory.put(newToken(), { record: { data, ...rest }, stamp: "1" }, 100)
    assert.throws(() => Object.assign(data as object, { cart: [] }))
    assert.throws(() => (data as { cart: Array<string> }).cart.push("pear"))
  })

  it.live("S1 S4 what is remembered is never believed: changes and ends elsewhere are seen at the next load", () =>
    Effect.gen(function* () {
      const { another, store } = yield* pgWorld
      const wanted = session()
      const created = (yield* store.create(wanted)).record
      assert.deepStrictEqual(yield* store.load(wanted.token), created)
      const again = yield* store.load(wanted.token)
      assert.deepStrictEqual(again, created)
      const updated = yield* another.update({ id: created.id, version: 1, data: { cart: ["pear"] }, dataVersion: 2 })
      assert.deepStrictEqual(yield* store.load(wanted.token), updated)
      yield* another.revoke(created.id)
      const { reason } = yield* Effect.flip(store.load(wanted.token))
      assert.strictEqual(reason._tag, "SessionRevoked")
    })
  )

  it.live("S6 what is remembered does not hide that its token is due", () =>
    Effect.gen(function* () {
      const { connection, store } = yield* pgWorld
      const wanted = session()
      yield* store.create(wanted)
      for (let times = 0; times < 2; times++) assert.isNull((yield* store.load(wanted.token)).renewalNonce)
      yield* connection.query("update holdfast.session_tokens set issued_at = issued_at - interval '2 hours'")
      assert.isString((yield* store.load(wanted.token)).renewalNonce)
    })
  )

  it.live("activity is written for a remembered session, too, and told", () =>
    Effect.gen(function* () {
      const { advance, another, store } = yield* pgWorld
      const wanted = session()
      yield* store.create(wanted)
      const first = yield* store.load(wanted.token)
      yield* advance("10 minutes")
      const second = yield* store.load(wanted.token)
      assert.isTrue(DateTime.isGreaterThan(second.lastSeenAt, first.lastSeenAt))
      assert.deepStrictEqual(yield* another.load(wanted.token), second)
      assert.deepStrictEqual(yield* store.load(wanted.token), second)
    })
  )
})
