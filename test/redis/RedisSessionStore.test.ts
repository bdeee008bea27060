import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { inspect } from "node:util"
import * as RedisSessionReply from "../../src/redis/internal/RedisSessionReply.ts"
import * as RedisSessionStore from "../../src/redis/RedisSessionStore.ts"
import type { SessionError } from "../../src/session/SessionError.ts"
import type { SessionRecord } from "../../src/session/SessionRecord.ts"
import * as SessionPruning from "../../src/session/SessionPruning.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import * as SessionToken from "../../src/session/SessionToken.ts"
import { eventually } from "../support/conditions.ts"
import { keysOf, ownServer } from "../support/redis.ts"
import { client } from "../support/redis.ts"
import {
  contradictions,
  instance,
  keptSession,
  monitor,
  redisWorld,
  rewrite,
  sessionKey,
  tokenKey
} from "../support/redisSessions.ts"
import { authentication, create, newToken, outcome, session } from "../../src/testing/internal/SessionSamples.ts"

const all = <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) => Effect.all(effects, { concurrency: "unbounded" })
const times = <A>(count: number, make: (index: number) => A) => Array.from({ length: count }, (_, index) => make(index))

describe("RedisSessionStore", () => {
  it.live("S5 two hundred loads of one due session write it once", () =>
    Effect.gen(function* () {
      const { advance, another, prefix, store, url } = yield* redisWorld
      const wanted = session()
      const { id } = yield* create(store, wanted)
      const { said } = yield* monitor(url)
      for (const round of [1, 2, 3]) {
        yield* advance("10 minutes")
        const records = yield* all(times(200, (index) => (index % 2 === 0 ? store : another).load(wanted.token)))
        assert.lengthOf(new Set(records.map(({ lastSeenAt }) => lastSeenAt.epochMilliseconds)), 1)
        const end = `end of round ${round}`
        yield* Effect.scoped(Effect.flatMap(client(), ({ send }) => send("ECHO", end)))
        yield* eventually(Effect.sync(said), (text) => text.includes(end))
        const writes = said().split(`"SET" "${sessionKey(prefix, id)}"`).length - 1
        // So many are those of the time that went on.
        assert.strictEqual(writes - round, round)
      }
    })
  )

  it.live("S6 an old token is refused when its grace is over, also where it is remembered", () =>
    Effect.gen(function* () {
      const { client: own, prefix, store } = yield* redisWorld
      const wanted = session()
      const next = newToken()
      yield* create(store, wanted)
      // Early: nobody was told that it is due.
      yield* store.renew({ token: wanted.token, next })
      yield* store.load(next)
      const seconds = (yield* own.send("TIME")) as ReadonlyArray<string>
      const soon = String(Number(seconds[0]) * 1000 + 2500)
      // What is left of the grace, without a write to the session, so that nothing is forgotten for that.
      const kept = String(yield* own.send("GET", tokenKey(prefix, wanted.token)))
      assert.match(kept, / \d{13} {2}\w{32} $/)
      yield* own.send("SET", tokenKey(prefix, wanted.token), kept.replace(/ \d{13} /, ` ${soon} `))
      assert.strictEqual(yield* outcome(store.load(wanted.token)), "ok")
      assert.strictEqual(yield* outcome(store.load(wanted.token)), "ok")
      yield* eventually(outcome(store.load(wanted.token)), (told) => told === "SessionSuperseded", "8 seconds")
    })
  )

  it.live("loads of concurrent requests travel together, and what is remembered is only confirmed", () =>
    Effect.gen(function* () {
      const { prefix, store, url } = yield* redisWorld
      const wanted = times(60, () => session({ principal: null }))
      yield* all(wanted.map((one) => create(store, one)))
      const { said } = yield* monitor(url)
      for (const _ of [1, 2]) yield* all(wanted.map(({ token }) => store.load(token)))
      yield* Effect.scoped(Effect.flatMap(client(), ({ send }) => send("ECHO", prefix)))
      yield* eventually(Effect.sync(said), (text) => text.includes(`"ECHO" "${prefix}"`))
      const calls = said()
        .split("\n")
        .filter((line) => line.includes('"EVALSHA"') && wanted.some(({ token }) => line.includes(token)))
      assert.lengthOf(calls, 1)
    })
  )

  it.live("S7 S8 a principal with a great many sessions holds nobody up, and all of them end", () =>
    Effect.gen(function* () {
      const { another, client, prefix, store } = yield* redisWorld
      const crowd = (count: number) =>
        Effect.forEach(times(count, String), () => create(store, session({ maxPerPrincipal: 10_000 })), {
          concurrency: 64
        })
      const first = yield* crowd(1000)
      const spared = first[500]?.id
      const revoking = yield* Effect.forkChild(another.revokeAll("alice", { except: spared }), {
        startImmediately: true
      })
      const meanwhile: Array<SessionRecord> = []
      while (revoking.pollUnsafe() === undefined) {
        meanwhile.push(yield* create(store, session({ maxPerPrincipal: 10_000 })))
      }
      const revoked = yield* Fiber.join(revoking)
      const left = (yield* store.list("alice")).map(({ id }) => id)
      assert.include(left, spared)
      assert.sameMembers(
        [...revoked, ...left],
        [...first, ...meanwhile].map(({ id }) => id)
      )
      assert.sameMembers(
        left.filter((id) => id !== spared),
        meanwhile.map(({ id }) => id).filter((id) => !revoked.includes(id))
      )
      // Whoever logged in after the moment of the revocation stays, though it was still under way.
      const epoch = (yield* store.epoch("alice")) / 1000
      const later = meanwhile.filter(({ createdAt }) => createdAt.epochMilliseconds > epoch)
      assert.isNotEmpty(later)
      for (const { id } of later) assert.include(left, id)
      yield* crowd(450)
      const login = yield* store.create(session({ maxPerPrincipal: 2 }))
      assert.lengthOf(yield* store.list("alice"), 2)
      assert.lengthOf(new Set(login.displaced), 450 + left.length - 1)
      yield* crowd(450)
      const visitor = session({ principal: null })
      yield* create(store, visitor)
      const again = yield* store.authenticate(authentication({ token: visitor.token, maxPerPrincipal: 1 }))
      assert.lengthOf(again.displaced, 452)
      assert.deepStrictEqual(
        (yield* another.list("alice")).map(({ id }) => id),
        [again.record.id]
      )
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
    })
  )

  it.live("S8 those that expired are dropped from the sessions of their principal, however many", () =>
    Effect.gen(function* () {
      const { advance, client, prefix, store } = yield* redisWorld
      const short = { idleTimeout: Duration.minutes(5), maxPerPrincipal: 2000 }
      yield* all(times(3, () => create(store, session({ ...short, idleTimeout: Duration.hours(2) }))))
      yield* Effect.forEach(times(700, String), () => create(store, session(short)), { concurrency: 64 })
      yield* advance("10 minutes")
      // More have expired than one login drops.
      const { displaced } = yield* store.create(session({ maxPerPrincipal: 3 }))
      assert.lengthOf(displaced, 1)
      assert.lengthOf(yield* store.list("alice"), 3)
      yield* store.create(session({ maxPerPrincipal: 10 }))
      assert.strictEqual(yield* client.send("ZCARD", `${prefix}:p:alice`), 4)
      assert.lengthOf(yield* store.revokeAll("alice"), 4)
      assert.strictEqual(yield* client.send("EXISTS", `${prefix}:p:alice`, `${prefix}:d:alice`), 0)
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
    })
  )

  it.live("S7 S8 a session that its activity keeps alive is counted, and ended with all others", () =>
    Effect.gen(function* () {
      const { advance, client, prefix, store } = yield* redisWorld
      const [first, second] = [session({ maxPerPrincipal: 2 }), session({ maxPerPrincipal: 2 })]
      const oldest = yield* create(store, first)
      const { id } = yield* create(store, second)
      for (const _ of [1, 2, 3]) {
        yield* advance("20 minutes")
        yield* store.load(first.token)
        yield* store.touch(second.token)
      }
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
      const { displaced, record } = yield* store.create(session({ maxPerPrincipal: 2 }))
      assert.deepStrictEqual(displaced, [oldest.id])
      assert.sameMembers([...(yield* store.revokeAll("alice"))], [id, record.id])
      assert.strictEqual(yield* outcome(store.load(second.token)), "SessionRevoked")
    })
  )

  it.live("S4 what is remembered of a session is not believed beyond its time, though nobody writes it", () =>
    Effect.gen(function* () {
      const { store } = yield* redisWorld
      const wanted = session({
        idleTimeout: Duration.hours(1),
        absoluteTimeout: Duration.seconds(10),
        renewEvery: Duration.seconds(1)
      })
      yield* create(store, wanted)
      assert.isNull((yield* store.load(wanted.token)).renewalNonce)
      yield* eventually(
        Effect.map(Effect.option(store.load(wanted.token)), (record) => record._tag === "Some" && record.value),
        (record) => record !== false && record.renewalNonce !== null
      )
      const brief = session({ absoluteTimeout: Duration.millis(300) })
      yield* create(store, brief)
      yield* eventually(outcome(store.load(brief.token)), (told) => told === "SessionExpired")
    })
  )

  it.live("what a session held is gone with its end", () =>
    Effect.gen(function* () {
      const { client, prefix, store } = yield* redisWorld
      const { id } = yield* create(store, session({ data: "private" }))
      const kept = client.send("GET", sessionKey(prefix, id))
      assert.include(String(yield* kept), "private")
      yield* store.revoke(id)
      const left = yield* kept
      assert.notInclude(String(left), "private")
      // A stamp that no live session has, whatever the server's clock said before.
      assert.strictEqual(keptSession(left)?.stamp, "0")
    })
  )

  it.live("S6 a login or renewal that is interrupted anywhere is done wholly or not at all", () =>
    Effect.gen(function* () {
      const { another, client, prefix, store } = yield* redisWorld
      for (const delay of times(24, (index) => index)) {
        const wanted = session({ principal: null })
        yield* store.create(wanted)
        const login = authentication({ token: wanted.token, maxPerPrincipal: 2 })
        const next = newToken()
        const renews = delay % 2 === 1
        const working = yield* Effect.forkChild(
          renews ? store.renew({ token: wanted.token, next }) : store.authenticate(login)
        )
        yield* Effect.forEach(times(delay * 2, String), () => Effect.yieldNow)
        yield* Fiber.interrupt(working)
        // What was sent goes on; the answer to this comes after it.
        yield* store.ping
        const [old, renewed, fresh] = yield* all(
          [wanted.token, next, login.next].map((token) => outcome(another.load(token)))
        )
        const stories = renews
          ? ["ok SessionMissing SessionMissing", "ok ok SessionMissing"]
          : ["ok SessionMissing SessionMissing", "SessionSuperseded SessionMissing ok"]
        assert.include(stories, [old, renewed, fresh].join(" "))
        assert.isAtMost((yield* another.list("alice")).length, 2)
      }
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
    })
  )

  it.live("S10 the server is told no token, and keeps none", () =>
    Effect.gen(function* () {
      const { advance, client, prefix, store, url } = yield* redisWorld
      const { said } = yield* monitor(url)
      const token = SessionToken.make()
      const wanted = session({ token: SessionToken.hash(token), renewEvery: Duration.minutes(1) })
      const { id } = yield* create(store, wanted)
      yield* advance("10 minutes")
      const { renewalNonce } = yield* store.load(wanted.token)
      const next = SessionToken.next(token, renewalNonce ?? "")
      yield* store.renew({ token: wanted.token, next: SessionToken.hash(next) })
      yield* store.touch(SessionToken.hash(next))
      yield* store.update({ id, version: 1, data: [], dataVersion: 1 })
      const fresh = SessionToken.make()
      yield* store.authenticate(authentication({ token: SessionToken.hash(next), next: SessionToken.hash(fresh) }))
      yield* store.load(SessionToken.hash(fresh))
      yield* store.revoke(id)
      yield* client.send("ECHO", id)
      yield* eventually(Effect.sync(said), (text) => text.includes(`"ECHO" "${id}"`))
      let dump = said()
      for (const key of yield* keysOf(client, prefix)) {
        const type = String(yield* client.send("TYPE", key))
        dump += `${key} ${inspect(yield* type === "string" ? client.send("GET", key) : client.send("ZRANGE", key, "0", "-1"))}`
      }
      assert.include(dump, wanted.token)
      for (const secret of [token, next, fresh]) {
        const text = Redacted.value(secret)
        for (const form of [text, Buffer.from(text).toString("hex"), Buffer.from(text, "base64url").toString("hex")]) {
          assert.notInclude(dump, form)
        }
      }
    })
  )

  it.live("S10 no hash is in an error, also of a server that repeats what it was told", () =>
    Effect.gen(function* () {
      const server = yield* ownServer({ config: ["rename-command EVALSHA ''"] })
      const store = yield* instance({ url: server.url })
      const wanted = session({ data: "secret data" })
      for (const refused of [
        Effect.asVoid(store.create(wanted)),
        Effect.asVoid(store.load(wanted.token)),
        Effect.asVoid(store.touch(wanted.token))
      ]) {
        const error = yield* Effect.flip(refused)
        assert.strictEqual(error.reason._tag, "SessionsUnavailable")
        const text = inspect(error, { depth: 20, showHidden: true })
        assert.include(text, "unknown command")
        assert.notInclude(text, wanted.token)
        assert.notInclude(text, "secret")
      }
    })
  )

  it.live("S13 what cannot be read fails alone, and says where without saying what", () =>
    Effect.gen(function* () {
      const { another, client, prefix, store } = yield* redisWorld
      const wanted = times(9, () => session({ maxPerPrincipal: 10 }))
      const records = yield* all(wanted.map((one) => create(store, one)))
      const spoil = (index: number, changes: Parameters<typeof rewrite>[3]) =>
        rewrite(client, prefix, records[index]?.id ?? "", changes)
      const hold = (index: number, content: string) => spoil(index, { content })
      yield* hold(1, '{"userAgent": "secret", "ip": 7}\n{}')
      yield* hold(2, "[]\n{}")
      yield* hold(3, "{}\n[1e999]")
      yield* spoil(4, { expires: "infinity" })
      yield* spoil(5, { idle: "" })
      const tokenOf = (index: number) => tokenKey(prefix, wanted[index]?.token ?? "")
      const kept = String(yield* client.send("GET", tokenOf(6)))
      yield* client.send("SET", tokenOf(6), `${kept.slice(0, 32)}xxxxxxxxxxx1`)
      yield* client.send("DEL", tokenOf(7))
      yield* client.send("LPUSH", tokenOf(7), "x")
      const outcomes = yield* all(wanted.map(({ token }) => outcome(store.load(token))))
      const bad = "SessionUndecodable"
      assert.deepStrictEqual(outcomes, ["ok", bad, bad, bad, bad, bad, bad, "SessionsUnavailable", "ok"])
      const error = yield* Effect.flip(another.load(wanted[1]?.token ?? newToken()))
      assert.match(error.message, /^The stored session cannot be read: session s_\S+ has an unexpected device\.ip$/)
      const expires = yield* Effect.flip(another.load(wanted[4]?.token ?? newToken()))
      assert.match(expires.message, /expiresAt/)
      assert.lengthOf(yield* store.list("alice"), 4)
      assert.strictEqual(yield* outcome(store.touch(wanted[5]?.token ?? newToken())), bad)
      // What cannot be told is not over, and can be ended.
      assert.isEmpty(yield* store.endedOf(records.map(({ id }) => id)))
      const [one, ...others] = records.slice(4)
      if (one === undefined) return assert.fail()
      assert.isTrue(yield* store.revoke(one.id))
      assert.strictEqual(yield* outcome(store.load(wanted[4]?.token ?? newToken())), "SessionRevoked")
      assert.lengthOf(yield* another.revokeAll("alice"), 8)
      assert.lengthOf(yield* store.endedOf(others.map(({ id }) => id)), others.length)
    })
  )

  it.live("S11 a key that is something else is reported as such, and nothing is done halfway", () =>
    Effect.gen(function* () {
      const { client, prefix, store } = yield* redisWorld
      const visitor = session({ principal: null })
      yield* create(store, visitor)
      const mine = session({ principal: "bob" })
      const { id } = yield* create(store, mine)
      const before = yield* keysOf(client, prefix)
      for (const key of ["p:alice", "d:alice", "epochs"]) {
        yield* client.send("SET", `${prefix}:${key}`, "x")
        const epoch = key === "epochs" ? 1 : undefined
        const login = authentication({ token: visitor.token, epoch })
        assert.strictEqual(yield* outcome(store.create(session({ epoch }))), "SessionsUnavailable", key)
        assert.strictEqual(yield* outcome(store.authenticate(login)), "SessionsUnavailable", key)
        assert.strictEqual(yield* outcome(store.revokeAll("alice")), "SessionsUnavailable", key)
        yield* client.send("DEL", `${prefix}:${key}`)
        assert.deepStrictEqual(yield* keysOf(client, prefix), before)
      }
      yield* client.send("DEL", sessionKey(prefix, id))
      yield* client.send("LPUSH", sessionKey(prefix, id), "x")
      assert.strictEqual(yield* outcome(store.load(mine.token)), "SessionsUnavailable")
      assert.strictEqual(yield* outcome(store.revoke(id)), "SessionsUnavailable")
      assert.strictEqual(yield* outcome(store.load(visitor.token)), "ok")
      assert.isEmpty(yield* store.endedOf([id]))
    })
  )

  it.live("S12 all that belonged to a session goes with it, also a great many tokens and what cannot be read", () =>
    Effect.gen(function* () {
      const { advance, client, prefix, store } = yield* redisWorld
      const wanted = session({ renewEvery: Duration.zero })
      yield* create(store, wanted)
      let token = wanted.token
      for (const _ of times(250, String)) {
        const next = newToken()
        yield* store.renew({ token, next })
        token = next
      }
      const spoiled = yield* create(store, session({ principal: null }))
      const gone = yield* create(store, session({ principal: null }))
      yield* client.send("DEL", sessionKey(prefix, gone.id))
      yield* store.revokeAll("alice")
      assert.strictEqual((yield* store.prune(10)).sessions, 0)
      yield* advance("37 hours")
      yield* client.send("DEL", sessionKey(prefix, spoiled.id))
      yield* client.send("LPUSH", sessionKey(prefix, spoiled.id), "x")
      let pruned = 0
      for (let turn = 0; pruned < 3 && turn < 10; turn++) {
        const before = (yield* keysOf(client, prefix)).length
        pruned += (yield* store.prune(2)).sessions
        assert.isAtMost(before - (yield* keysOf(client, prefix)).length, 130)
      }
      assert.strictEqual(pruned, 3)
      // Only the tokens of what could not be read are left.
      assert.lengthOf(yield* keysOf(client, prefix), 2)
    })
  )

  it.live("S12 a round of pruning leaves nothing, however many tokens the sessions had", () =>
    Effect.gen(function* () {
      const { advance, client, prefix, store } = yield* redisWorld
      yield* all(
        times(60, () =>
          Effect.gen(function* () {
            const wanted = session({ principal: null, renewEvery: Duration.zero })
            yield* create(store, wanted)
            let token = wanted.token
            for (const next of times(12, newToken)) {
              yield* store.renew({ token, next })
              token = next
            }
          })
        )
      )
      yield* advance("37 hours")
      const { pruned } = yield* Effect.provideService(SessionPruning.round(), SessionStore, store)
      assert.strictEqual(pruned, 60)
      assert.deepStrictEqual(yield* keysOf(client, prefix), [])
    })
  )

  it.live("S12 how long pruning took is never unknown: servers show a script the same time until its end", () =>
    Effect.gen(function* () {
      const { store } = yield* redisWorld
      assert.isAbove(Duration.toMillis((yield* store.prune(1)).took), 0)
      const way = Duration.millis(7)
      assert.deepStrictEqual(yield* RedisSessionReply.pruned([3, "0", 1], way), { sessions: 3, more: true, took: way })
      const told = yield* RedisSessionReply.pruned([3, "250", 0], way)
      assert.deepStrictEqual(told, { sessions: 3, more: false, took: Duration.micros(250n) })
    })
  )

  it.live("S12 a token that went over to another session stays as long as that, and none behind it is left", () =>
    Effect.gen(function* () {
      const { advance, client, prefix, store } = yield* redisWorld
      const long = { idleTimeout: Duration.days(20), absoluteTimeout: Duration.days(20) }
      for (const first of ["old", "new"]) {
        const old = session({ principal: null, ...(first === "new" && { absoluteTimeout: Duration.days(10) }) })
        const { id } = yield* create(store, old)
        const [second, third, next] = [newToken(), newToken(), session({ principal: null, ...long })]
        yield* store.renew({ token: old.token, next: second })
        yield* store.renew({ token: second, next: third })
        if (first === "old") yield* store.revoke(id)
        else yield* advance("31 minutes")
        const taking = yield* create(store, { ...next, instead: second })
        assert.strictEqual(yield* outcome(store.load(second)), "SessionSuperseded")
        if (first === "new") yield* store.revoke(taking.id)
        yield* advance("25 hours")
        assert.strictEqual((yield* store.prune(10)).sessions, 1, first)
        assert.strictEqual(yield* outcome(store.load(second)), first === "old" ? "SessionSuperseded" : "SessionExpired")
        assert.deepStrictEqual(yield* contradictions(client, prefix), [])
        yield* advance("25 days")
        assert.strictEqual((yield* store.prune(10)).sessions, 1, first)
        assert.deepStrictEqual(yield* keysOf(client, prefix), [])
      }
    })
  )

  it.live("S12 tokens dead for a day are forgotten with the next renewal or login, and no younger ones", () =>
    Effect.gen(function* () {
      const { advance, client, prefix, store } = yield* redisWorld
      const forever = { idleTimeout: Duration.days(30), absoluteTimeout: Duration.days(90) }
      const wanted = session({ ...forever, principal: null, renewEvery: Duration.hours(1) })
      yield* create(store, wanted)
      const tokens = [wanted.token]
      for (const _ of times(30, String)) {
        yield* advance("2 hours")
        const next = newToken()
        yield* store.renew({ token: tokens.at(-1) ?? next, next })
        yield* store.load(next)
        tokens.push(next)
      }
      const held = () => Effect.map(keysOf(client, `${prefix}:t:`), (keys) => keys.length)
      assert.strictEqual(yield* held(), 14)
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
      assert.strictEqual(yield* outcome(store.load(tokens.at(-3) ?? newToken())), "SessionSuperseded")
      assert.strictEqual(yield* outcome(store.load(tokens[3] ?? newToken())), "SessionMissing")
      yield* advance("25 hours")
      yield* store.authenticate(authentication({ token: tokens.at(-1) ?? newToken(), ...forever }))
      yield* advance("25 hours")
      const last = authentication({ token: newToken() })
      yield* Effect.ignore(store.authenticate(last))
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
    })
  )

  it.live("S12 an epoch is forgotten after a day, and never while a login may have seen the one before", () =>
    Effect.gen(function* () {
      const { advance, client, prefix, store } = yield* redisWorld
      const seen = yield* store.epoch("gone")
      yield* store.revokeAll("gone")
      const first = yield* store.epoch("gone")
      yield* store.revokeAll("gone")
      assert.isAbove(yield* store.epoch("gone"), first)
      yield* advance("23 hours")
      yield* store.prune(10)
      assert.strictEqual(yield* outcome(store.create(session({ principal: "gone", epoch: seen }))), "SessionRevoked")
      yield* advance("2 hours")
      yield* store.prune(10)
      assert.deepStrictEqual(yield* keysOf(client, prefix), [])
      yield* store.revokeAll("gone")
      assert.isAbove(yield* store.epoch("gone"), first)
    })
  )

  it.live("no time is too long for a number, and none ends before its time", () =>
    Effect.gen(function* () {
      const { advance, another, store } = yield* redisWorld
      const wanted = session({
        idleTimeout: Duration.days(1e12),
        absoluteTimeout: Duration.days(1e12),
        renewEvery: Duration.days(1e12),
        maxPerPrincipal: Infinity
      })
      const { id } = yield* create(store, wanted)
      yield* advance(Duration.days(10_000))
      assert.strictEqual((yield* another.load(wanted.token)).id, id)
      assert.lengthOf(yield* store.list("alice"), 1)
    })
  )

  it.live("prefixes of one server do not see each other", () =>
    Effect.gen(function* () {
      const { prefix, store, url } = yield* redisWorld
      const other = yield* instance({ url, prefix: `${prefix}_2` })
      const wanted = session()
      const { id } = yield* create(store, wanted)
      assert.strictEqual(yield* outcome(other.load(wanted.token)), "SessionMissing")
      assert.isEmpty(yield* other.revokeAll("alice"))
      assert.isFalse(yield* other.revoke(id))
      assert.strictEqual(yield* outcome(store.load(wanted.token)), "ok")
      for (const wrong of ["", "a:b", "a'b", "ü", "x".repeat(65)]) {
        const exit = yield* Effect.exit(Effect.scoped(RedisSessionStore.make({ url, prefix: wrong })))
        assert.isTrue(Exit.hasDies(exit), wrong)
      }
    })
  )

  it.live("a user with no more rights than the docs name can do everything, and nothing beside it", () =>
    Effect.gen(function* () {
      const server = yield* ownServer()
      const admin = yield* client(Effect.succeed(server.url))
      yield* admin.send("ACL", "SETUSER", "sessions", "on", ">secret", ...RedisSessionStore.permissions("holdfast"))
      const url = new URL(Redacted.value(server.url))
      url.username = "sessions"
      url.password = "secret"
      const store = yield* instance({ url: Redacted.make(url.href), onUnsafe: "refuse" })
      yield* everything(store)
      const own = yield* client(Effect.succeed(Redacted.make(url.href)))
      for (const command of [["GET", "other"], ["FLUSHALL"], ["KEYS", "*"], ["CONFIG", "SET", "save", ""]]) {
        assert.match((yield* Effect.flip(own.send(...command))).message, /NOPERM/)
      }
      // Without INFO and CONFIG it works as well, and says that it could not look.
      yield* admin.send("ACL", "SETUSER", "sessions", "-info", "-config")
      yield* everything(yield* instance({ url: Redacted.make(url.href) }))
      // With those that an older version named, what is remembered is confirmed as well.
      yield* admin.send("ACL", "SETUSER", "sessions", "-getrange")
      const wanted = session()
      yield* create(store, wanted)
      for (const _ of [1, 2]) yield* store.load(wanted.token)
    })
  )

  it.live("C7 closing the layer leaves no connection, also with operations under way", () =>
    Effect.gen(function* () {
      const { client, url } = yield* redisWorld
      const scope = yield* Scope.make()
      const store = yield* Scope.provide(instance({ url, applicationName: "closing" }), scope)
      yield* store.ping
      const connections = Effect.map(
        client.send("CLIENT", "LIST"),
        (list) => String(list).split("name=closing").length - 1
      )
      yield* eventually(connections, (count) => count === 2)
      const loads = yield* Effect.forkChild(all(times(100, () => outcome(store.load(newToken())))), {
        startImmediately: true
      })
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.await(loads)
      yield* eventually(connections, (count) => count === 0)
    })
  )
})

/** Every operation once, with an answer that is right. */
const everything = Effect.fnUntraced(function* (store: Effect.Success<ReturnType<typeof instance>>) {
  const work: Effect.Effect<void, SessionError> = Effect.gen(function* () {
    const visitor = session({ principal: null })
    yield* create(store, visitor)
    const login = authentication({ token: visitor.token, epoch: yield* store.epoch("carol"), principal: "carol" })
    const { record } = yield* store.authenticate(login)
    const next = newToken()
    yield* store.renew({ token: login.next, next })
    yield* store.touch(next)
    yield* store.load(next)
    const times = { idleTimeout: Duration.hours(1), absoluteTimeout: Duration.hours(2) }
    yield* store.setExpiry({ id: record.id, ...times })
    const { id } = yield* create(store, session({ principal: null }))
    assert.include(
      (yield* store.visitors({ limit: 100 })).sessions.map((visitor) => visitor.id),
      id
    )
    const rotated = newToken()
    yield* store.rotate({ token: next, next: rotated })
    yield* store.load(rotated)
    yield* store.update({ id: record.id, version: record.version, data: 1, dataVersion: 1 })
    assert.lengthOf(yield* store.list("carol"), 1)
    assert.isTrue(yield* store.revoke(record.id))
    assert.deepStrictEqual(yield* store.endedOf([record.id]), [record.id])
    yield* store.create(session({ principal: "carol" }))
    assert.lengthOf(yield* store.revokeAll("carol"), 1)
    yield* create(store, session({ principal: null, instead: next }))
    assert.strictEqual(yield* outcome(store.load(next)), "SessionSuperseded")
    yield* store.prune(1)
    yield* store.pruneLag
    yield* store.ping
  })
  yield* work
})
