/**
 * S15 in every store: text comes back as it was written, or is refused. Half a surrogate pair and NUL are what stores change.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type { SessionError } from "../../src/session/SessionError.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { redisWorld } from "../support/redisSessions.ts"
import { pgWorld, unprunedStore } from "../support/sessions.ts"
import { authentication, create, newToken, outcome, session } from "../../src/testing/internal/SessionSamples.ts"

const memoryWorld = Effect.map(Layer.build(Layer.fresh(unprunedStore)), (context) => {
  const store = Context.get(context, SessionStore)
  return { store, another: store }
})

const texts = [
  "\ud800",
  "\udbff",
  "\udc00\ud800",
  "a\0b",
  "\ufffd",
  "\u{1F600}",
  "e\u0301",
  "\u00e9",
  "\ufeff",
  "\\ud800",
  "\n\r\t\u2028",
  '"',
  "\\",
  "{}",
  "{a,b}",
  "NULL",
  "null",
  "",
  " x "
]
const values: ReadonlyArray<Schema.Json> = [
  ...texts,
  null,
  texts,
  Object.fromEntries(texts.map((text, index) => [text, index])),
  { "\ud800": { "\udbff": ["\0"] } }
]
const principals = texts.filter((text) => text !== "" && text.isWellFormed() && !text.includes("\0"))
const refused = ["\ud800", "\udbff", "a\udc00", "a\0b", "\0", "", "x".repeat(257), "\u{1F600}".repeat(129)]

const same = (a: unknown, b: unknown, what: string) => assert.strictEqual(JSON.stringify(a), JSON.stringify(b), what)

for (const { name, world } of [
  { name: "MemorySessionStore", world: memoryWorld },
  { name: "PgSessionStore", world: pgWorld },
  { name: "RedisSessionStore", world: redisWorld }
]) {
  describe(name, () => {
    it.live("S15 data and device come back as they were written, however they are written and read", () =>
      Effect.gen(function* () {
        const { another, store } = yield* world
        for (const [index, value] of values.entries()) {
          const what = `value ${index}`
          const userAgent = typeof value === "string" ? value : JSON.stringify(value)
          const device = { userAgent, ip: userAgent }
          const wanted = session({ principal: `p${index}`, data: value, device })
          const made = yield* create(store, wanted)
          const id = made.id
          for (const instance of [store, store, another]) {
            for (const read of [yield* instance.load(wanted.token), ...(yield* instance.list(`p${index}`))]) {
              same([read.data, read.device], [value, device], what)
              assert.strictEqual(read.device.userAgent, userAgent, what)
            }
          }
          // Many at a time travel together, one alone does not.
          const others = yield* Effect.forEach([1, 2, 3], () => create(store, session({ principal: null })))
          const changes = [{ id, version: 1 }, ...others].map(({ id }) =>
            store.update({ id, version: 1, data: value, dataVersion: 1 })
          )
          for (const record of yield* Effect.all(changes, { concurrency: "unbounded" })) same(record.data, value, what)
          same((yield* another.update({ id, version: 2, data: value, dataVersion: 1 })).data, value, what)
          same((yield* another.load(wanted.token)).data, value, what)
          const next = newToken()
          const login = authentication({ token: wanted.token, next, principal: `q${index}`, device })
          const { record } = yield* store.authenticate({ ...login, data: { value, version: 1 } })
          same([record.data, record.device], [value, device], what)
          const read = yield* another.load(next)
          same([read.data, read.device], [value, device], what)
        }
      })
    )

    it.live("S15 the names of principals and operators come back as they were given, and no two are one", () =>
      Effect.gen(function* () {
        const { another, store } = yield* world
        for (const principal of principals) {
          const wanted = session({ principal, actor: principal })
          yield* create(store, wanted)
          const read = yield* another.load(wanted.token)
          assert.deepStrictEqual([read.principal, read.actor], [principal, principal])
        }
        for (const principal of principals)
          assert.lengthOf(yield* another.list(principal), 1, JSON.stringify(principal))
        for (const principal of principals) {
          assert.strictEqual(yield* another.epoch(principal), 0)
          assert.lengthOf(yield* another.revokeAll(principal), 1)
        }
      })
    )

    it.live("S15 a name that no store could keep is refused in every operation", () =>
      Effect.gen(function* () {
        const { store } = yield* world
        const mine = session()
        yield* create(store, mine)
        for (const principal of refused) {
          const operations: ReadonlyArray<Effect.Effect<unknown, SessionError>> = [
            store.create(session({ principal })),
            store.create(session({ actor: principal })),
            store.authenticate(authentication({ token: mine.token, principal })),
            store.revokeAll(principal),
            store.epoch(principal),
            store.list(principal)
          ]
          for (const operation of operations) {
            assert.strictEqual(yield* outcome(operation), "SessionInvalid", JSON.stringify(principal))
          }
        }
        assert.strictEqual((yield* store.load(mine.token)).principal, "alice")
      })
    )

    it.live("S15 where a page of visitors begins is the store's own, or is refused", () =>
      Effect.gen(function* () {
        const { store } = yield* world
        yield* create(store, session({ principal: null }))
        for (const after of ["\0", "\ud800", "x", "s_", "' or true --", "\u{1F600}"]) {
          assert.strictEqual(
            yield* outcome(store.visitors({ after, limit: 10 })),
            "SessionInvalid",
            JSON.stringify(after)
          )
        }
        assert.lengthOf((yield* store.visitors({ limit: 10 })).sessions, 1)
      })
    )
  })
}
