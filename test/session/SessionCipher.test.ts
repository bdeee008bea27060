import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as SessionCipher from "../../src/session/SessionCipher.ts"
import { SessionsUnavailable } from "../../src/session/SessionError.ts"
import type * as SessionStore from "../../src/session/SessionStore.ts"
import { keysOf } from "../support/redis.ts"
import * as RedisSessions from "../support/redisSessions.ts"
import * as PgSessions from "../support/sessions.ts"
import { authentication, create, newToken, outcome, session } from "../../src/testing/internal/SessionSamples.ts"

const key = (id: string, byte: number): SessionCipher.Key => ({
  id,
  secret: Redacted.make(Buffer.alloc(32, byte).toString("base64url"))
})
const [k1, k2] = [key("k1", 1), key("k2", 2)]
const secret = "Secret-of-alice"

const cipherOf = (...keys: ReadonlyArray<SessionCipher.Key>) => Effect.runSync(SessionCipher.make(keys))
const reason = (opened: ReturnType<SessionCipher.SessionCipher["open"]>) =>
  Result.isFailure(opened) ? opened.failure.reason : undefined

describe("SessionCipher", () => {
  const cipher = cipherOf(k2, k1)

  it("opens what it sealed, which is JSON, never alike, and shows nothing of it", () => {
    for (const json of [`{"a":"${secret}"}`, "null", '"ü\\ud800"', "[]"]) {
      const sealed = cipher.seal("s_1", json)
      assert.isString(JSON.parse(sealed))
      assert.notInclude(sealed, "Secret")
      assert.notStrictEqual(sealed, cipher.seal("s_1", json))
      assert.strictEqual(Result.getOrThrow(cipher.open("s_1", sealed)), json)
    }
  })

  it("what was never sealed is read as it is, also where it looks like something sealed", () => {
    const lookalike = JSON.stringify(`sealed:${cipher.seal("s_1", "1").slice(9, -1)}`)
    for (const json of ["{}", '"sealed:x"', lookalike, JSON.stringify(cipher.seal("s_1", "1"))]) {
      assert.strictEqual(Result.getOrThrow(cipher.open("s_1", json)), json)
      assert.strictEqual(Result.getOrThrow(cipherOf().open("s_1", json)), json)
      assert.strictEqual(Result.getOrThrow(cipher.open("s_1", cipher.seal("s_1", json))), json)
    }
    assert.strictEqual(cipherOf().seal("s_1", "{}"), "{}")
  })

  it("does not open what is another session's, or was changed anywhere, and never takes it for data", () => {
    const sealed = cipher.seal("s_1", "{}")
    assert.strictEqual(reason(cipher.open("s_2", sealed))?._tag, "SessionUndecodable")
    const bytes = Buffer.from(sealed.slice(9, -1), "base64url")
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes)
      changed[at] = (changed[at] ?? 0) ^ 1
      for (const each of [changed, bytes.subarray(0, at)]) {
        const opened = cipher.open("s_1", ` "sealed:${each.toString("base64url")}"`)
        assert.include(["SessionUndecodable", "SessionsUnavailable"], reason(opened)?._tag, String(at))
      }
    }
  })

  it("opens what an older key sealed, and seals with the first", () => {
    assert.strictEqual(Result.getOrThrow(cipher.open("s_1", cipherOf(k1).seal("s_1", "7"))), "7")
    for (const other of [cipherOf(k1), cipherOf(), cipherOf(key("k3", 2))]) {
      const failed = reason(other.open("s_1", cipher.seal("s_1", "7")))
      assert.instanceOf(failed, SessionsUnavailable)
      assert.include(String(failed instanceof SessionsUnavailable && failed.cause), "key k2")
    }
  })

  it("says what is wrong with keys without telling one", () => {
    for (const [keys, problem] of [
      [[k1, k1], "twice"],
      [[{ id: "a b", secret: k1.secret }], "an id"],
      [[{ id: "short", secret: Redacted.make("Secret") }], '"short", which is not 32 bytes']
    ] as const) {
      const made = Effect.runSync(Effect.result(SessionCipher.make(keys)))
      assert.isTrue(Result.isFailure(made))
      if (Result.isFailure(made)) {
        assert.include(made.failure.message, problem)
        assert.notInclude(made.failure.message, "Secret")
      }
    }
  })
})

type Store = SessionStore.SessionStore["Service"]

/** A place of sessions, stores over it with other keys, and all text that is kept there. */
interface Place {
  readonly open: (...keys: ReadonlyArray<SessionCipher.Key>) => Effect.Effect<Store, never, Scope.Scope>
  readonly kept: Effect.Effect<string, unknown>
  /** Gives the data of one session to the other. */
  readonly move: (from: string, to: string) => Effect.Effect<unknown, unknown>
}

const postgres = Effect.map(PgSessions.pgWorld, ({ connection, url }): Place => {
  const all = (sql: string, params: ReadonlyArray<string> = []) => connection.queryValues(sql, params)
  return {
    open: (...keys) => PgSessions.instance({ url, keys }),
    kept: Effect.map(all("select s::text from holdfast.sessions s"), (rows) => rows.flat().join("\n")),
    move: (from, to) =>
      all("update holdfast.sessions set data = (select data from holdfast.sessions where id = $1) where id = $2", [
        from,
        to
      ])
  }
})

const redis = Effect.map(RedisSessions.redisWorld, ({ client, prefix, url }): Place => {
  const content = (id: string) =>
    Effect.map(
      client.send("GET", RedisSessions.sessionKey(prefix, id)),
      (kept) => RedisSessions.keptSession(kept)?.content
    )
  return {
    open: (...keys) => RedisSessions.instance({ url, prefix, keys }),
    kept: Effect.gen(function* () {
      const keys = yield* keysOf(client, `${prefix}:s:`)
      return (yield* Effect.forEach(keys, (key) => client.send("GET", key))).map(String).join("\n")
    }),
    move: (from, to) =>
      Effect.flatMap(content(from), (content) => RedisSessions.rewrite(client, prefix, to, { content }))
  }
})

for (const [name, place] of [
  ["PgSessionStore", postgres],
  ["RedisSessionStore", redis]
] as const) {
  describe(`${name} with keys`, () => {
    it.live("nothing of the data is kept in the clear, whatever writes it", () =>
      Effect.gen(function* () {
        const { kept, open } = yield* place
        const store = yield* open(k1)
        const data = { note: secret }
        const [mine, visitor] = [session({ data }), session({ data, principal: null })]
        const { id } = yield* create(store, mine)
        yield* create(store, visitor)
        yield* store.update({ id, version: 1, data: { note: `${secret} 2` }, dataVersion: 1 })
        const login = authentication({ token: visitor.token, data: { value: { note: `${secret} 3` }, version: 1 } })
        const { record } = yield* store.authenticate(login)
        assert.deepStrictEqual(record.data, { note: `${secret} 3` })
        const rotated = newToken()
        yield* store.rotate({ token: mine.token, next: rotated })
        assert.deepStrictEqual((yield* store.load(rotated)).data, { note: `${secret} 2` })
        assert.deepStrictEqual((yield* store.load(login.next)).data, { note: `${secret} 3` })
        assert.sameDeepMembers(
          (yield* store.list("alice")).map(({ data }) => data),
          [{ note: `${secret} 2` }, { note: `${secret} 3` }]
        )
        const text = yield* kept
        assert.notInclude(text, "Secret")
        assert.include(text, "sealed:")
      }).pipe(Effect.scoped)
    )

    it.live(
      "what was stored before there was a key, and under an older one, is read, and written under the first",
      () =>
        Effect.gen(function* () {
          const { kept, open } = yield* place
          const [plain, old, next] = [yield* open(), yield* open(k1), yield* open(k2, k1)]
          const [before, under] = [session({ data: secret }), session({ data: secret, principal: "bob" })]
          const [a, b] = [yield* create(plain, before), yield* create(old, under)]
          for (const { token } of [before, under]) assert.strictEqual((yield* next.load(token)).data, secret)
          for (const { id } of [a, b]) {
            const updated = yield* next.update({ id, version: 1, data: `${secret}!`, dataVersion: 1 })
            assert.strictEqual(updated.data, `${secret}!`)
          }
          assert.notInclude(yield* kept, "Secret")
          const last = yield* open(k2)
          for (const { token } of [before, under]) assert.strictEqual((yield* last.load(token)).data, `${secret}!`)
        }).pipe(Effect.scoped)
    )

    it.live("data under a key that is not given is unavailable, never lost, and the log names the key once", () => {
      const said: Array<string> = []
      const logger = Logger.make(({ message }) => void said.push(String(message)))
      return Effect.gen(function* () {
        const { open } = yield* place
        const wanted = session({ data: secret })
        const { id } = yield* create(yield* open(k2), wanted)
        for (const store of [yield* open(k1), yield* open()]) {
          for (let n = 0; n < 3; n++) {
            assert.strictEqual(yield* outcome(store.load(wanted.token)), "SessionsUnavailable")
          }
          assert.deepStrictEqual(yield* store.list("alice"), [])
        }
        yield* Effect.repeat(
          Effect.sync(() => said.filter((line) => /encrypted under the key k2,/.test(line)).length),
          { until: (count) => count === 2, schedule: Schedule.spaced("5 millis") }
        )
        assert.notInclude(said.join("\n"), "Secret")
        assert.strictEqual((yield* (yield* open(k2)).load(wanted.token)).id, id)
        // Without the key it can still be ended.
        assert.isTrue(yield* (yield* open()).revoke(id))
      }).pipe(Effect.scoped, Effect.provide(Logger.layer([logger])))
    })

    it.live("the data of one session opens in no other", () =>
      Effect.gen(function* () {
        const { move, open } = yield* place
        const store = yield* open(k1)
        const [mine, theirs] = [session({ data: secret }), session({ data: "theirs", principal: "bob" })]
        const [a, b] = [yield* create(store, mine), yield* create(store, theirs)]
        yield* move(a.id, b.id)
        assert.strictEqual(yield* outcome((yield* open(k1)).load(theirs.token)), "SessionUndecodable")
        assert.strictEqual((yield* store.load(mine.token)).data, secret)
      }).pipe(Effect.scoped)
    )

    it.live("keys are changed under load, instance by instance, and no session is lost or late", () =>
      Effect.gen(function* () {
        const { open } = yield* place
        const wanted = Array.from({ length: 20 }, (_, n) => session({ data: 0, principal: `user-${n}` }))
        let instances = [yield* open(k1), yield* open(k1)]
        const known = yield* Effect.forEach(wanted, (one) => create(instances[0] ?? assert.fail(), one))
        const counts = wanted.map(() => 0)
        const work = (token: (typeof wanted)[number]["token"], n: number) =>
          Effect.gen(function* () {
            const count = counts[n] ?? 0
            const store = instances[count % 2] ?? assert.fail()
            const { data, id, version } = yield* store.load(token)
            assert.strictEqual(data, count)
            yield* store.update({ id, version, data: count + 1, dataVersion: 1 })
            counts[n] = count + 1
          })
        const turned = (n: number) => {
          const before = counts.map((count) => count + n)
          return Effect.repeat(
            Effect.sync(() => counts.every((count, index) => count >= (before[index] ?? 0))),
            { until: (all) => all, schedule: Schedule.spaced("5 millis") }
          )
        }
        const rotation = Effect.gen(function* () {
          for (const keys of [
            [k1, k2],
            [k2, k1]
          ]) {
            for (const index of [0, 1]) {
              yield* turned(3)
              instances = instances.with(index, yield* open(...keys))
            }
          }
          // Every session is written anew by then.
          yield* turned(3)
        })
        const load = Effect.forEach(wanted, ({ token }, n) => Effect.forever(work(token, n)), {
          concurrency: "unbounded"
        })
        yield* Effect.raceFirst(rotation, load)
        const last = yield* open(k2)
        for (const [n, { token }] of wanted.entries()) {
          const { data, id } = yield* last.load(token)
          // A change that was under way at the end may have been made.
          assert.include([counts[n], (counts[n] ?? 0) + 1], data)
          assert.strictEqual(id, known[n]?.id)
        }
      }).pipe(Effect.scoped)
    )
  })
}
