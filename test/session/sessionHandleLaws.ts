/**
 * The laws that a handle keeps over every store. A test file gives them a world to run in.
 */
import { assert, describe } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Session from "../../src/session/Session.ts"
import * as SessionAudit from "../../src/session/SessionAudit.ts"
import type { SessionError } from "../../src/session/SessionError.ts"
import * as SessionErrors from "../../src/session/SessionError.ts"
import type { SessionId } from "../../src/session/SessionId.ts"
import * as Sessions from "../../src/session/Sessions.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import type * as SessionToken from "../../src/session/SessionToken.ts"

const CounterData = Schema.Struct({ count: Schema.Number, notes: Schema.Array(Schema.String) })
type CounterData = typeof CounterData.Type

export class Counter extends Session.Service<Counter>()("test/Counter", {
  data: CounterData,
  initial: { count: 0, notes: [] },
  maxBytes: 1024
}) {}

/** One instance of an app: its sessions, and what it asked of its store. */
export interface Instance {
  readonly sessions: Sessions.Sessions["Service"]
  /** The names of the store's operations, in the order they were asked for. */
  readonly calls: Array<string>
}

/** Two instances over the same sessions, and a hand on the store's clock. */
export interface World {
  readonly here: Instance
  readonly there: Instance
  readonly advance: (by: Duration.Input) => Effect.Effect<void, unknown>
}

export type Law = (name: string, body: (world: World) => Effect.Effect<void, unknown, Scope.Scope>) => void

/** An instance over a store, which counts what is asked of it and delegates all of it. */
export const instanceOver = (store: SessionStore["Service"]) =>
  Effect.gen(function* () {
    const calls: Array<string> = []
    const counted = new Proxy(store, {
      get: (target, name: keyof SessionStore["Service"]) => {
        const operation = target[name]
        if (typeof operation !== "function") return operation
        return (...parameters: ReadonlyArray<never>) => {
          if (name !== "endedOf") calls.push(name)
          return (operation as (...parameters: ReadonlyArray<never>) => unknown)(...parameters)
        }
      }
    })
    const layer = Layer.fresh(Sessions.layer()).pipe(Layer.provide(Layer.succeed(SessionStore, counted)))
    return { sessions: Context.get(yield* Layer.build(layer), Sessions.Sessions), calls }
  })

/** A client: it keeps the token that it was told last, as a browser does, and may lose answers. */
export const client = (token?: SessionToken.SessionToken) => {
  const told: Array<Session.TokenChange> = []
  let held: Option.Option<SessionToken.SessionToken> = Option.fromUndefinedOr(token)
  return {
    told,
    token: () => held,
    /** A handle on the client's session, in one instance. */
    on: (instance: Instance, options: { readonly renews?: boolean } = {}) =>
      Effect.provideService(
        Counter.handle({
          token: held,
          ...(options.renews === true && {
            onDue: (renew: Effect.Effect<boolean, SessionError>) => Effect.ignore(renew)
          }),
          onToken: (change) =>
            Effect.sync(() => {
              told.push(change)
              held = Option.map(change, ({ token }) => token)
            })
        }),
        Sessions.Sessions,
        instance.sessions
      )
  }
}

/** What came of an operation: `ok`, or the reason. */
export const outcome = <A, R>(effect: Effect.Effect<A, SessionError, R>) =>
  Effect.map(
    Effect.result(effect),
    Result.match({ onFailure: ({ reason }) => reason._tag, onSuccess: () => "ok" as const })
  )

const all = <A, E, R>(effects: ReadonlyArray<Effect.Effect<A, E, R>>) =>
  Effect.all(effects, { concurrency: "unbounded" })
const times = <A>(count: number, make: (index: number) => A) => Array.from({ length: count }, (_, index) => make(index))
export const add = (data: CounterData): CounterData => ({ ...data, count: data.count + 1 })
const valueOf = Option.match({
  onNone: () => "none",
  onSome: (token: SessionToken.SessionToken) => Redacted.value(token)
})
const login = (instance: Instance, principal = "alice", policy: Session.Policy = {}) =>
  Effect.gen(function* () {
    const browser = client()
    const session = yield* browser.on(instance)
    const record = yield* session.authenticate(principal, { userAgent: "test", policy })
    return { browser, session, record, token: Option.getOrThrow(browser.token()) }
  })

export const sessionHandleLaws = (name: string, law: Law) =>
  describe(name, () => {
    law("S1 what was written is read back by any instance right after", ({ here, there }) =>
      Effect.gen(function* () {
        const { browser, session } = yield* login(here)
        for (let count = 1; count <= 5; count++) {
          assert.strictEqual((yield* session.modify(add)).count, count)
          const other = yield* browser.on(there)
          assert.deepStrictEqual(yield* other.data, { count, notes: [] })
          assert.strictEqual((yield* session.data).count, count)
        }
      })
    )

    law("S6 a handle whose due token a login took the place of is told so, and not that there is no session", (world) =>
      Effect.gen(function* () {
        const { browser } = yield* login(world.here, "alice", { renewEvery: 0 })
        const stale = yield* browser.on(world.there)
        assert.isNotNull((yield* stale.record).renewalNonce)
        yield* (yield* browser.on(world.here)).authenticate("alice")
        assert.strictEqual(yield* outcome(stale.touch), "SessionSuperseded")
      })
    )

    law("S2 parallel modifies by many handles on two instances all take effect", ({ here, there }) =>
      Effect.gen(function* () {
        const { browser } = yield* login(here)
        const handles = yield* all(times(40, (index) => browser.on(index % 2 === 0 ? here : there)))
        const once = handles.map((handle) => handle.modify(add))
        yield* all([...once, ...handles.map((handle) => handle.modify((data) => Effect.succeed(add(data))))])
        assert.strictEqual((yield* (yield* browser.on(there)).data).count, 80)
      })
    )

    law("S2 data that is changed in place is written, and changes nobody else's", ({ here }) =>
      Effect.gen(function* () {
        const { browser, session } = yield* login(here)
        yield* session.modify((data) => {
          ;(data.notes as Array<string>).push("milk")
          return data
        })
        assert.deepStrictEqual((yield* (yield* browser.on(here)).data).notes, ["milk"])
        assert.deepStrictEqual((yield* (yield* client().on(here)).data).notes, [])
        const ruined = Effect.exit(
          session.modify((data) => {
            ;(data.notes as Array<string>).push("not stored")
            return Effect.die("after the change")
          })
        )
        yield* ruined
        assert.deepStrictEqual((yield* session.data).notes, ["milk"])
      })
    )

    law("writes nothing when the data stays the same", ({ here }) =>
      Effect.gen(function* () {
        const { session } = yield* login(here)
        yield* session.modify(add)
        const { version } = yield* session.versioned
        assert.deepStrictEqual(yield* session.modify(({ count, notes }) => ({ notes, count })), { count: 1, notes: [] })
        assert.strictEqual((yield* session.versioned).version, version)
        assert.lengthOf(
          here.calls.filter((call) => call === "update"),
          1
        )
      })
    )

    law("replaces the data of the version that was read, and of no other", ({ here, there }) =>
      Effect.gen(function* () {
        const { browser, session } = yield* login(here)
        const { version } = yield* session.versioned
        const [mine, other] = [session, yield* browser.on(there)]
        const outcomes = yield* all([
          outcome(mine.replace({ count: 1, notes: [] }, { version })),
          outcome(other.replace({ count: 2, notes: [] }, { version }))
        ])
        assert.sameMembers(outcomes, ["ok", "SessionConflict"])
        const now = yield* (yield* browser.on(here)).versioned
        assert.strictEqual(now.version, version + 1)
        assert.strictEqual(now.data.count, outcomes[0] === "ok" ? 1 : 2)
        assert.strictEqual(yield* outcome(other.replace({ count: 3, notes: [] }, { version: 0 })), "SessionConflict")
      })
    )

    law("S3 a change that was under way when the session ended brings nothing back", ({ here, there }) =>
      Effect.gen(function* () {
        const { browser, session } = yield* login(here)
        const token = Option.getOrThrow(browser.token())
        const slow = client(token)
        const other = yield* slow.on(there)
        const started = yield* Deferred.make<void>()
        const goOn = yield* Deferred.make<void>()
        const changing = yield* Effect.forkChild(
          outcome(
            other.modify((data) =>
              Effect.as(Effect.andThen(Deferred.succeed(started, undefined), Deferred.await(goOn)), add(data))
            )
          )
        )
        yield* Deferred.await(started)
        yield* session.logout
        yield* Deferred.succeed(goOn, undefined)
        assert.strictEqual(yield* Fiber.join(changing), "SessionRevoked")
        for (const handle of [session, other]) {
          assert.strictEqual(yield* outcome(handle.modify(add)), "SessionRevoked")
          assert.strictEqual(yield* outcome(handle.replace({ count: 9, notes: [] }, { version: 1 })), "SessionRevoked")
          assert.strictEqual(yield* outcome(handle.run(Effect.never)), "SessionRevoked")
          assert.strictEqual(yield* outcome(handle.touch), "SessionRevoked")
          assert.isNull(yield* handle.principal)
        }
        assert.isTrue(Option.isNone(slow.token()) && Option.isNone(browser.token()))
        assert.strictEqual(
          yield* outcome(Effect.flatMap(client(token).on(there), ({ record }) => record)),
          "SessionRevoked"
        )
        assert.notInclude([...here.calls, ...there.calls].join(" "), "create create")
      })
    )

    law("S4 a session that expired is refused, and its data is nobody's", ({ advance, here, there }) =>
      Effect.gen(function* () {
        const { browser, session } = yield* login(here)
        yield* session.modify(add)
        yield* advance("13 hours")
        const later = yield* browser.on(there)
        assert.strictEqual(yield* outcome(later.record), "SessionExpired")
        assert.isNull(yield* later.principal)
        assert.deepStrictEqual(yield* later.data, { count: 0, notes: [] })
        assert.isTrue(Option.isNone(browser.token()))
        assert.strictEqual(yield* outcome(session.modify(add)), "SessionExpired")
      })
    )

    law("S6 a login makes the visitor's session somebody's, under a token of its own; the old one is dead", (world) =>
      Effect.gen(function* () {
        const { here, there } = world
        const browser = client()
        const visitor = yield* browser.on(here)
        yield* visitor.modify(add)
        const old = Option.getOrThrow(browser.token())
        const id = yield* visitor.id
        const record = yield* visitor.authenticate("alice", { userAgent: "firefox", ip: "192.0.2.7" })
        assert.deepInclude(record, { id, principal: "alice", device: { userAgent: "firefox", ip: "192.0.2.7" } })
        for (const instance of [here, there]) {
          const stale = client(old)
          assert.strictEqual(
            yield* outcome(Effect.flatMap(stale.on(instance), (handle) => handle.record)),
            "SessionSuperseded"
          )
          assert.deepStrictEqual(
            stale.told,
            [],
            "another response brings the new cookie, and this one does not remove it"
          )
          assert.strictEqual((yield* (yield* browser.on(instance)).data).count, 1)
        }
        yield* visitor.modify(add)
        const again = yield* visitor.authenticate("alice")
        assert.strictEqual(again.id, id)
        assert.strictEqual((yield* (yield* browser.on(there)).data).count, 2)
      })
    )

    law("S6 a login as somebody else ends the session that was there and hands nothing on", ({ here, there }) =>
      Effect.gen(function* () {
        const alice = yield* login(here)
        yield* alice.session.modify(add)
        const next = yield* alice.browser.on(there)
        const bob = yield* next.authenticate("bob")
        assert.notStrictEqual(bob.id, alice.record.id)
        assert.deepStrictEqual(yield* next.data, { count: 0, notes: [] })
        const seen = Effect.flatMap(client(alice.token).on(here), ({ record }) => record)
        // Its other tabs are told that the browser has another cookie, which they must not remove.
        assert.strictEqual(yield* outcome(seen), "SessionSuperseded")
        assert.isFalse(yield* here.sessions.end(alice.record.id), "it is over")
        assert.strictEqual(yield* (yield* alice.browser.on(here)).principal, "bob")
      })
    )

    law("a logout with a token that is due leaves the client none", ({ advance, here, there }) =>
      Effect.gen(function* () {
        const { browser, token } = yield* login(here, "alice", { renewEvery: "1 minute" })
        yield* advance("2 minutes")
        yield* (yield* browser.on(there, { renews: true })).logout
        assert.strictEqual(valueOf(browser.token()), "none")
        assert.strictEqual(yield* outcome((yield* client(token).on(here)).id), "SessionRevoked")
      })
    )

    law(
      "S6 a change under a token that a login elsewhere replaced is refused, and makes no session beside it",
      (world) =>
        Effect.gen(function* () {
          const { here, there } = world
          const tab = client()
          yield* (yield* tab.on(here)).modify(add)
          const old = client(Option.getOrThrow(tab.token()))
          const early = yield* old.on(there)
          yield* early.data
          const late = yield* old.on(there)
          const { id } = yield* (yield* tab.on(here)).authenticate("alice")
          for (const session of [early, late]) {
            assert.strictEqual(yield* outcome(session.modify(add)), "SessionSuperseded")
            assert.strictEqual(
              yield* outcome(session.replace({ count: 7, notes: [] }, { version: 0 })),
              "SessionSuperseded"
            )
            assert.strictEqual(yield* outcome(session.logout), "SessionSuperseded")
          }
          assert.deepStrictEqual(old.told, [])
          const seen = yield* tab.on(here)
          assert.deepStrictEqual([yield* seen.id, (yield* seen.data).count], [id, 1])
          assert.lengthOf(
            [...here.calls, ...there.calls].filter((call) => call === "create"),
            1
          )
        })
    )

    law("S6 a session whose token nobody can learn any more, because the answer began meanwhile, ends", ({ here }) =>
      Effect.gen(function* () {
        for (const change of ["modify", "authenticate"] as const) {
          let hasBegun = false
          const told: Array<Session.TokenChange> = []
          const ids: Array<SessionId> = []
          const sessions = Sessions.Sessions.of({
            ...here.sessions,
            create: (session) =>
              Effect.tap(here.sessions.create(session), ({ record }) =>
                Effect.sync(() => {
                  hasBegun = true
                  ids.push(record.id)
                })
              )
          })
          const session = yield* Effect.provideService(
            Counter.handle({
              token: Option.none(),
              canTell: () => !hasBegun,
              onToken: (change) => Effect.sync(() => told.push(change))
            }),
            Sessions.Sessions,
            sessions
          )
          const changed: Effect.Effect<unknown, SessionError> =
            change === "modify" ? session.modify(add) : session.authenticate("alice")
          assert.strictEqual(yield* outcome(changed), "SessionInvalid")
          assert.deepStrictEqual(told, [])
          assert.lengthOf(ids, 1)
          for (const id of ids) assert.isFalse(yield* here.sessions.end(id), "it is over already")
        }
      })
    )

    law("S11 a logout that the store does not answer leaves the client its token", ({ here }) =>
      Effect.gen(function* () {
        const { browser, token } = yield* login(here)
        const away = new SessionErrors.SessionError({
          reason: new SessionErrors.SessionsUnavailable({ cause: new Error("away") })
        })
        for (const operation of ["open", "revoke"] as const) {
          const sessions = Sessions.Sessions.of({ ...here.sessions, [operation]: () => Effect.fail(away) })
          const session = yield* browser.on({ ...here, sessions })
          assert.strictEqual(yield* outcome(session.logout), "SessionsUnavailable")
          assert.strictEqual(valueOf(browser.token()), valueOf(Option.some(token)))
        }
        yield* (yield* browser.on(here)).logout
        assert.strictEqual(valueOf(browser.token()), "none")
      })
    )

    law("S6 a change that meets a login as somebody else changes nothing of theirs", ({ here }) =>
      Effect.gen(function* () {
        const { session } = yield* login(here, "alice")
        const [reached, go] = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
        let first = true
        const change = (data: CounterData) =>
          Effect.gen(function* () {
            if (!first) return add(data)
            first = false
            yield* Deferred.succeed(reached, undefined)
            yield* Deferred.await(go)
            return { count: 100, notes: ["alice's"] }
          })
        const changing = yield* Effect.forkChild(session.modify(change), { startImmediately: true })
        yield* Deferred.await(reached)
        yield* session.authenticate("bob")
        yield* Deferred.succeed(go, undefined)
        yield* Fiber.join(changing)
        assert.deepStrictEqual(yield* session.data, { count: 1, notes: [] })
      })
    )

    law("S6 a change refused after a login as somebody else leaves that login alone", ({ here, there }) =>
      Effect.gen(function* () {
        const { browser } = yield* login(here, "alice")
        const [reached, go] = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
        const update: Instance["sessions"]["update"] = (change) =>
          Deferred.succeed(reached, undefined).pipe(
            Effect.andThen(Deferred.await(go)),
            Effect.andThen(here.sessions.update(change))
          )
        const session = yield* browser.on({ ...here, sessions: { ...here.sessions, update } })
        const changing = yield* Effect.forkChild(outcome(session.modify(add)), { startImmediately: true })
        yield* Deferred.await(reached)
        yield* session.authenticate("bob")
        yield* Deferred.succeed(go, undefined)
        assert.strictEqual(yield* Fiber.join(changing), "SessionRevoked")
        assert.strictEqual(yield* session.principal, "bob")
        assert.strictEqual(yield* (yield* browser.on(there)).principal, "bob")
      })
    )

    law("S6 parallel renewals arrive at one token, and the old one lives on until 30 s after the new one", (world) =>
      Effect.gen(function* () {
        const { advance, here, there } = world
        const { record, token } = yield* login(here, "alice", { idleTimeout: "6 hours" })
        assert.isFalse(yield* (yield* client(token).on(here)).renew, "not due yet")
        yield* advance("61 minutes")
        const clients = times(20, () => client(token))
        const handles = yield* all(
          clients.map((browser, index) => browser.on(index % 2 === 0 ? here : there, { renews: true }))
        )
        assert.deepStrictEqual(new Set(yield* all(handles.map(({ id }) => id))), new Set([record.id]))
        yield* all(handles.map((handle) => handle.modify(add)))
        const tokens = new Set(clients.map((browser) => String(browser.told.length) + valueOf(browser.token())))
        assert.lengthOf(Array.from(tokens), 1)
        assert.notInclude(Array.from(tokens).join(), valueOf(Option.some(token)))
        const tokenOf = (index: number) => clients[index]?.token() ?? Option.none()
        const seen = (held: Option.Option<SessionToken.SessionToken>, instance: Instance) =>
          Effect.flatMap(client(Option.getOrThrow(held)).on(instance), (handle) => outcome(handle.record))
        yield* advance("2 hours")
        assert.strictEqual(yield* seen(Option.some(token), here), "ok", "the new one was never presented")
        assert.strictEqual(yield* seen(tokenOf(0), there), "ok")
        yield* advance("29 seconds")
        assert.strictEqual(yield* seen(Option.some(token), there), "ok")
        yield* advance("2 seconds")
        assert.strictEqual(yield* seen(Option.some(token), here), "SessionSuperseded")
        assert.strictEqual(yield* seen(tokenOf(7), there), "ok")
        assert.strictEqual((yield* (yield* client(Option.getOrThrow(tokenOf(3))).on(here)).data).count, 20)
      })
    )

    law("S6 a request that outlives the grace of its token goes on under the next one", ({ advance, here, there }) =>
      Effect.gen(function* () {
        const { token } = yield* login(here, "alice", { idleTimeout: "6 hours" })
        yield* advance("61 minutes")
        const browser = client(token)
        const long = yield* browser.on(here, { renews: true })
        yield* long.modify(add)
        yield* (yield* browser.on(there)).modify(add)
        yield* advance("1 minute")
        assert.strictEqual((yield* long.modify(add)).count, 3)
        yield* long.touch
        assert.strictEqual((yield* long.authenticate("alice")).principal, "alice")
      })
    )

    law(
      "S6 a request whose token was due goes on under the next one that another gave it, and under no login's",
      ({ advance, here, there }) =>
        Effect.gen(function* () {
          const { token } = yield* login(here, "alice", { idleTimeout: "6 hours" })
          yield* advance("61 minutes")
          const [slow, other] = [client(token), client(token)]
          const long = yield* slow.on(here)
          yield* long.modify(add)
          yield* (yield* other.on(there, { renews: true })).modify(add)
          yield* (yield* other.on(there)).modify(add)
          yield* advance("1 minute")
          yield* long.touch
          assert.strictEqual((yield* long.modify(add)).count, 4)
          assert.deepStrictEqual(slow.told, [])
          yield* (yield* other.on(there)).authenticate("alice")
          assert.strictEqual(yield* outcome(long.touch), "SessionSuperseded")
        })
    )

    law("S13 a session whose data cannot be read can still be seen, listed and ended", ({ here, there }) =>
      Effect.gen(function* () {
        const told: Array<SessionAudit.Event> = []
        const { browser, record } = yield* login(here)
        const other = yield* login(there)
        yield* here.sessions.update({ id: record.id, version: record.version, data: "not a counter", dataVersion: 1 })
        const handle = yield* Effect.provideService(browser.on(there), SessionAudit.SessionAudit, {
          note: (event) => Effect.sync(() => told.push(event))
        })
        assert.strictEqual(yield* outcome(handle.data), "SessionUndecodable")
        assert.strictEqual(yield* outcome(handle.modify(add)), "SessionUndecodable")
        assert.strictEqual(yield* handle.principal, "alice")
        assert.deepStrictEqual(
          told.map((event) => [event._tag, "session" in event ? event.session : undefined]),
          [["Undecodable", record.id]]
        )
        assert.lengthOf(yield* other.session.devices, 2)
        assert.strictEqual((yield* other.session.modify(add)).count, 1)
        assert.strictEqual(yield* outcome(handle.logout), "ok")
        assert.lengthOf(yield* other.session.devices, 1)
      })
    )

    law("S8 a cap may be so high that there is none, and times so long that nothing ends", ({ advance, here, there }) =>
      Effect.gen(function* () {
        const endless: Session.Policy = {
          idleTimeout: Infinity,
          absoluteTimeout: Infinity,
          renewEvery: Infinity,
          maxPerPrincipal: Infinity
        }
        const { browser, session } = yield* login(here, "alice", endless)
        yield* all(times(7, () => login(there, "alice", endless)))
        yield* session.authenticate("alice", { policy: endless })
        assert.lengthOf(yield* session.devices, 8)
        yield* advance("13 hours")
        assert.isFalse(yield* (yield* browser.on(there)).renew)
        for (const [maxPerPrincipal, left] of [[2.9, 2] as const, [0, 1] as const]) {
          const last = yield* login(here, "alice", { ...endless, maxPerPrincipal })
          assert.lengthOf(yield* last.session.devices, left)
        }
      })
    )

    law("S13 a session that its store cannot read keeps nobody from logging in, and is told", ({ here, there }) =>
      Effect.gen(function* () {
        const { browser, token } = yield* login(here)
        const unreadable = new SessionErrors.SessionError({
          reason: new SessionErrors.SessionUndecodable({ problem: "session s_1 has an unexpected device" })
        })
        const sessions = Sessions.Sessions.of({ ...here.sessions, open: () => Effect.fail(unreadable) })
        const lines: Array<string> = []
        const logger = Logger.make<unknown, void>(({ message }) => {
          lines.push(JSON.stringify(message))
        })
        const work = Effect.gen(function* () {
          const session = yield* browser.on({ ...here, sessions })
          assert.strictEqual(yield* outcome(session.data), "SessionUndecodable")
          assert.strictEqual(yield* outcome(session.logout), "SessionUndecodable")
          assert.strictEqual(valueOf(browser.token()), valueOf(Option.some(token)))
          assert.strictEqual((yield* session.authenticate("alice")).principal, "alice")
          assert.notStrictEqual(valueOf(browser.token()), valueOf(Option.some(token)))
          assert.strictEqual((yield* session.modify(add)).count, 1)
        })
        yield* work.pipe(
          Effect.provide(Logger.layer([logger])),
          Effect.provideService(References.MinimumLogLevel, "Info")
        )
        assert.include(lines.join("\n"), "s_1 has an unexpected device")
        assert.strictEqual(yield* (yield* browser.on(there)).principal, "alice")
      })
    )

    law("S14 nothing is stored for a visitor who has no data", ({ here }) =>
      Effect.gen(function* () {
        const browser = client()
        const visitor = yield* browser.on(here)
        assert.deepStrictEqual(yield* visitor.data, { count: 0, notes: [] })
        assert.isNull(yield* visitor.principal)
        assert.deepStrictEqual(yield* visitor.modify((data) => data), { count: 0, notes: [] })
        assert.deepStrictEqual(yield* visitor.devices, [])
        yield* visitor.logout
        assert.strictEqual(yield* outcome(visitor.record), "SessionMissing")
        assert.strictEqual(yield* outcome(visitor.run(Effect.void)), "SessionMissing")
        assert.deepStrictEqual(here.calls, [])
        assert.isTrue(Option.isNone(browser.token()))
        yield* all(times(10, () => visitor.modify(add)))
        assert.lengthOf(
          here.calls.filter((call) => call === "create"),
          1
        )
        assert.strictEqual((yield* (yield* browser.on(here)).data).count, 10)
      })
    )

    law("loads once, on first use, however many ask at the same time", ({ here }) =>
      Effect.gen(function* () {
        const { browser } = yield* login(here)
        here.calls.length = 0
        const handle = yield* browser.on(here)
        assert.deepStrictEqual(here.calls, [])
        yield* all(
          times(50, (index): Effect.Effect<unknown, SessionError> => (index % 2 === 0 ? handle.data : handle.principal))
        )
        yield* handle.lifetime
        assert.deepStrictEqual(here.calls, ["load"])
      })
    )

    law("shows the principal's sessions, and ends one's own only", ({ here, there }) =>
      Effect.gen(function* () {
        const [one, two, three] = yield* Effect.all([login(here), login(there), login(here)])
        const bob = yield* login(here, "bob")
        const devices = yield* one.session.devices
        assert.sameMembers(
          devices.map(({ id }) => id),
          [one.record.id, two.record.id, three.record.id]
        )
        assert.deepStrictEqual(
          devices.filter(({ current }) => current).map(({ device, id }) => [id, device.userAgent]),
          [[one.record.id, "test"]]
        )
        assert.isFalse(yield* one.session.revoke(bob.record.id))
        assert.strictEqual(yield* outcome(bob.session.modify(add)), "ok")
        assert.isTrue(yield* one.session.revoke(two.record.id))
        assert.isFalse(yield* one.session.revoke(two.record.id))
        assert.strictEqual(yield* outcome(two.session.modify(add)), "SessionRevoked")
        const another = yield* login(there)
        assert.sameMembers([...(yield* one.session.revokeOthers)], [three.record.id, another.record.id])
        assert.strictEqual(yield* outcome(three.session.modify(add)), "SessionRevoked")
        assert.strictEqual(yield* outcome(one.session.modify(add)), "ok")
        assert.isTrue(yield* one.session.revoke(one.record.id))
        assert.isTrue(Option.isNone(one.browser.token()))
      })
    )

    law(
      "S6 a rotation leaves the session as it is under a token of its own, and the client is told",
      ({ here, there }) =>
        Effect.gen(function* () {
          const { browser, record, session } = yield* login(here)
          yield* session.modify(add)
          const old = browser.token()
          const stale = yield* client(Option.getOrThrow(old)).on(there)
          yield* stale.data
          const rotated = yield* session.rotate
          assert.strictEqual(rotated.id, record.id)
          assert.notStrictEqual(valueOf(browser.token()), valueOf(old))
          for (const instance of [here, there]) {
            const thief = yield* client(Option.getOrThrow(old)).on(instance)
            assert.strictEqual(yield* outcome(thief.record), "SessionSuperseded")
            const next = yield* browser.on(instance)
            assert.deepInclude(yield* next.data, { count: 1 })
          }
          assert.strictEqual(yield* outcome(stale.touch), "SessionSuperseded")
          assert.deepInclude(yield* session.modify(add), { count: 2 })
          assert.strictEqual(yield* outcome(session.touch), "ok")
          const visitor = yield* client().on(here)
          assert.strictEqual(yield* outcome(visitor.rotate), "SessionMissing")
          yield* session.logout
          assert.strictEqual(yield* outcome(session.rotate), "SessionRevoked")
        })
    )

    law("a session can be given other times, and the client is told until when", ({ advance, here, there }) =>
      Effect.gen(function* () {
        const { browser, record, session } = yield* login(here)
        const told = browser.told.length
        const remembered = yield* session.setExpiry({ idleTimeout: "14 days", absoluteTimeout: "30 days" })
        assert.isAbove(remembered.expiresAt.epochMilliseconds, record.expiresAt.epochMilliseconds)
        assert.deepStrictEqual(browser.told.slice(told).map(Option.map(({ expiresAt }) => expiresAt)), [
          Option.some(remembered.expiresAt)
        ])
        assert.deepStrictEqual((yield* session.record).expiresAt, remembered.expiresAt)
        yield* advance("13 days")
        const later = yield* browser.on(there)
        assert.strictEqual(yield* later.principal, "alice")
        // What is not said is the class's.
        yield* later.setExpiry({ idleTimeout: "1 hour" })
        yield* advance("13 hours")
        assert.strictEqual(yield* outcome((yield* browser.on(here)).record), "SessionExpired")
        const visitor = yield* client().on(here)
        assert.strictEqual(yield* outcome(visitor.setExpiry({})), "SessionMissing")
      })
    )

    law("a login proves the identity, an operator on somebody's behalf does not, and makes nobody make room", (world) =>
      Effect.gen(function* () {
        const { here, there } = world
        const visitor = client()
        const handle = yield* visitor.on(here)
        assert.strictEqual(yield* handle.authenticatedAt, null)
        yield* handle.modify(add)
        assert.strictEqual(yield* handle.authenticatedAt, null)
        const hers = yield* Effect.forEach(
          times(5, () => there),
          (instance) => login(instance)
        )
        const [mine] = hers
        assert.deepStrictEqual(yield* mine?.session.authenticatedAt ?? Effect.succeed(null), mine?.record.createdAt)

        const olga = yield* login(here, "olga")
        const record = yield* olga.session.authenticate("alice", { actor: "olga", userAgent: "support" })
        assert.deepInclude(record, { principal: "alice", actor: "olga" })
        assert.strictEqual(yield* olga.session.authenticatedAt, null)
        assert.strictEqual(yield* olga.session.principal, "alice")
        // The operator's own session is over, and nothing of it was handed on.
        assert.deepStrictEqual(yield* here.sessions.list("olga"), [])
        for (const { session } of hers) assert.strictEqual(yield* outcome(session.touch), "ok")
        const devices = yield* mine?.session.devices ?? Effect.succeed([])
        assert.deepStrictEqual(
          devices.filter(({ actor }) => actor !== null).map(({ actor, device, id }) => [actor, device.userAgent, id]),
          [["olga", "support", record.id]]
        )
        assert.isTrue(yield* mine?.session.revoke(record.id) ?? Effect.succeed(false))
        assert.strictEqual(yield* outcome(olga.session.touch), "SessionRevoked")
        // A handle of alice's own session is not what an operator acts in, either.
        const acting = yield* Effect.flatMap(client().on(there), (session) =>
          Effect.as(session.authenticate("alice", { actor: "olga" }), session)
        )
        const again = yield* acting.authenticate("alice")
        assert.strictEqual(again.actor, null)
        assert.deepStrictEqual(yield* acting.authenticatedAt, again.createdAt)
      })
    )

    law("visitors are listed and ended by an operator, and nobody who is logged in", ({ here, there }) =>
      Effect.gen(function* () {
        const visitors = yield* Effect.forEach(
          times(5, () => client()),
          (browser) => Effect.tap(browser.on(there), (handle) => handle.modify(add))
        )
        const ids = yield* Effect.forEach(visitors, ({ id }) => id)
        const { session } = yield* login(there)
        const found = yield* Stream.runCollect(here.sessions.visitors)
        assert.sameMembers(
          Array.from(found, ({ id }) => id),
          ids
        )
        const working = yield* visitors[0]?.run(Effect.never) ?? Effect.die("no visitor")
        assert.strictEqual(yield* here.sessions.endVisitors, 5)
        assert.strictEqual(yield* here.sessions.endVisitors, 0)
        for (const visitor of visitors) assert.strictEqual(yield* outcome(visitor.touch), "SessionRevoked")
        yield* Fiber.await(working)
        assert.strictEqual(yield* outcome(session.touch), "ok")
      })
    )

    law("refuses what is too large or no principal, and writes nothing of it", ({ here }) =>
      Effect.gen(function* () {
        const { session } = yield* login(here)
        const tooLarge = session.modify((data) => ({ ...data, notes: ["ü".repeat(600)] }))
        assert.strictEqual(yield* outcome(tooLarge), "SessionTooLarge")
        assert.deepStrictEqual((yield* session.data).notes, [])
        for (const principal of ["", "a\0b", "x".repeat(257), "\ud800", "a\udc00b"]) {
          const visitor = yield* client().on(here)
          assert.strictEqual(yield* outcome(visitor.authenticate(principal)), "SessionInvalid")
        }
      })
    )
  })
