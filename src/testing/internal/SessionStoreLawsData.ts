/** The laws of what a store keeps: data, lists, pages, and the time by its clock. */
import { assert } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { SessionRecord } from "../../session/SessionRecord.ts"
import * as SessionId from "../../session/SessionId.ts"
import { all, authentication, create, newToken, outcome, session, times } from "./SessionSamples.ts"
import { law } from "./SessionStoreLaw.ts"

export const laws = [
  law("S1 what one instance wrote another reads right after", [], ({ another, store }) =>
    Effect.gen(function* () {
      const wanted = session({ principal: null, dataVersion: 7 })
      const created = yield* create(store, wanted)
      assert.deepInclude(created, { principal: null, data: wanted.data, dataVersion: 7, version: 1 })
      assert.deepStrictEqual(created.device, wanted.device)
      assert.deepStrictEqual(created.lastSeenAt, created.createdAt)
      assert.strictEqual(DateTime.distance(created.createdAt, created.idleExpiresAt).pipe(Duration.toMinutes), 30)
      assert.strictEqual(DateTime.distance(created.createdAt, created.expiresAt).pipe(Duration.toHours), 12)
      assert.deepStrictEqual(yield* another.load(wanted.token), created)
      const updated = yield* another.update({ id: created.id, version: 1, data: { cart: [] }, dataVersion: 8 })
      assert.deepStrictEqual(updated, { ...created, data: { cart: [] }, dataVersion: 8, version: 2 })
      assert.deepStrictEqual(yield* store.load(wanted.token), updated)
      // As where something is in quarantine beside the data.
      const below = yield* store.update({ id: created.id, version: 2, data: [], dataVersion: -8 })
      assert.deepStrictEqual(below, { ...updated, data: [], dataVersion: -8, version: 3 })
      assert.deepStrictEqual(yield* another.load(wanted.token), below)
    })
  ),

  law("S1 data comes back as it was written, to the character", [], ({ store }) =>
    Effect.gen(function* () {
      const text = '{"z":1,"a":{"__proto__":{"x":[1e-7,1.5e+300,null,true]}},"":"\\u0000 \\ud800 é \\"","long":"LONG"}'
      const data = JSON.parse(text.replace("LONG", "ü".repeat(30_000)))
      for (const value of [data, null, 0, "text", [], [[]]]) {
        const wanted = session({ principal: null, data: value })
        yield* create(store, wanted)
        assert.strictEqual(JSON.stringify((yield* store.load(wanted.token)).data), JSON.stringify(value))
      }
    })
  ),

  law(
    "S2 of parallel updates of one version exactly one takes effect, and the others are told",
    [],
    ({ another, store }) =>
      Effect.gen(function* () {
        const wanted = session()
        const { id } = yield* create(store, wanted)
        const outcomes = yield* all(
          times(20, (index) =>
            outcome((index % 2 === 0 ? store : another).update({ id, version: 1, data: index, dataVersion: 1 }))
          )
        )
        assert.deepStrictEqual(outcomes.toSorted(), [...times(19, () => "SessionConflict"), "ok"])
        const { data, version } = yield* store.load(wanted.token)
        assert.strictEqual(version, 2)
        assert.strictEqual(data, outcomes.indexOf("ok"))
      })
  ),

  law("a list holds the live sessions, the newest first", ["clock"], ({ advance, store }) =>
    Effect.gen(function* () {
      const ids: Array<SessionId.SessionId> = []
      for (const _ of times(4, () => undefined)) {
        ids.unshift((yield* create(store, session())).id)
        yield* advance("1 second")
      }
      const [, second, ...rest] = ids
      assert.isDefined(second)
      if (second !== undefined) yield* store.revoke(second)
      assert.deepStrictEqual(
        (yield* store.list("alice")).map(({ id }) => id),
        [...ids.slice(0, 1), ...rest]
      )
      assert.isEmpty(yield* store.list("bob"))
      const unknown = SessionId.make()
      assert.sameMembers([...(yield* store.endedOf([...ids, unknown]))], [second, unknown])
      assert.isEmpty(yield* store.endedOf([]))
    })
  ),

  law("a session that an operator opened on behalf of somebody says so until they log in", [], (world) =>
    Effect.gen(function* () {
      const { another, store } = world
      const wanted = session({ actor: "olga" })
      const created = yield* create(store, wanted)
      assert.deepInclude(created, { principal: "alice", actor: "olga" })
      assert.deepStrictEqual(yield* another.load(wanted.token), created)
      assert.deepStrictEqual(yield* another.list("alice"), [created])
      assert.isEmpty(yield* another.list("olga"))
      const updated = yield* another.update({ id: created.id, version: 1, data: {}, dataVersion: 1 })
      assert.strictEqual(updated.actor, "olga")
      const next = newToken()
      assert.strictEqual((yield* store.rotate({ token: wanted.token, next })).actor, "olga")
      const login = yield* store.authenticate(authentication({ token: next }))
      assert.strictEqual(login.record.actor, null)
      assert.strictEqual((yield* create(another, session({ principal: "bob" }))).actor, null)
      assert.strictEqual(yield* outcome(store.create(session({ actor: "\ud800" }))), "SessionInvalid")
    })
  ),

  law("visitors' sessions are told a page at a time, and nobody else's", ["clock"], ({ advance, another, store }) =>
    Effect.gen(function* () {
      yield* create(store, session({ principal: null }))
      yield* advance("31 minutes")
      const theirs = yield* Effect.forEach(
        times(7, () => session({ principal: null })),
        (one) => create(store, one)
      )
      yield* Effect.forEach(
        times(5, () => session()),
        (one) => create(store, one)
      )
      const [ended, ...living] = theirs
      if (ended !== undefined) yield* store.revoke(ended.id)
      const pages = Effect.fnUntraced(function* (limit: number) {
        const found: Array<SessionRecord> = []
        for (let after: string | undefined; ;) {
          const { next, sessions } = yield* another.visitors({ after, limit })
          assert.isAtMost(sessions.length, limit)
          found.push(...sessions)
          if (next === undefined) return found
          after = next
        }
      })
      const byId = (a: SessionRecord, b: SessionRecord) => (a.id < b.id ? -1 : 1)
      for (const limit of [1, 3, 100]) {
        assert.deepStrictEqual((yield* pages(limit)).toSorted(byId), living.toSorted(byId))
      }
    })
  ),

  law("a principal that no store could keep is refused", [], ({ store }) =>
    Effect.gen(function* () {
      const visitor = session({ principal: null })
      yield* create(store, visitor)
      for (const principal of ["", "a\0b", "a\ud800", "x".repeat(257)]) {
        const outcomes = [
          yield* outcome(store.create(session({ principal }))),
          yield* outcome(store.authenticate(authentication({ token: visitor.token, principal }))),
          yield* outcome(store.revokeAll(principal)),
          yield* outcome(store.epoch(principal)),
          yield* outcome(store.list(principal))
        ]
        assert.deepStrictEqual(new Set(outcomes), new Set(["SessionInvalid"]))
      }
      for (const principal of ["ü".repeat(256), "' or 1=1; --", "\u0001", "🎈"]) {
        const { id } = yield* create(store, session({ principal, device: { userAgent: "a\0\ud800" } }))
        assert.deepStrictEqual(
          (yield* store.list(principal)).map((record) => [record.id, record.principal, record.device.userAgent]),
          [[id, principal, "a\0\ud800"]]
        )
      }
    })
  ),

  law("the store answers with the time of its clock", ["clock"], ({ advance, another, store }) =>
    Effect.gen(function* () {
      const wanted = session()
      const { createdAt } = yield* create(store, wanted)
      yield* advance("10 minutes")
      const { createdAt: moved } = (yield* another.list("alice"))[0] ?? { createdAt }
      const age = Duration.toMinutes(DateTime.distance(moved, yield* another.ping))
      assert.isAtLeast(age, 10)
      assert.isBelow(age, 11)
    })
  )
]
