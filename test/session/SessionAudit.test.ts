import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as TestClock from "effect/testing/TestClock"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"
import * as SessionAudit from "../../src/session/SessionAudit.ts"
import * as Sessions from "../../src/session/Sessions.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import * as SessionToken from "../../src/session/SessionToken.ts"
import * as SkewedClock from "../../src/testing/SkewedClock.ts"
import { eventually } from "../support/conditions.ts"
import { pgWorld, unprunedStore } from "../support/sessions.ts"
import { client, Counter, instanceOver, outcome } from "./sessionHandleLaws.ts"

/** Collects everything that is logged, as text and by event. */
const collecting = <A, E, R>(
  work: (lines: ReadonlyArray<string>, spans: ReadonlyArray<Tracer.Span>) => Effect.Effect<A, E, R>
) => {
  const lines: Array<string> = []
  const spans: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  return work(lines, spans).pipe(
    Effect.provide(Logger.layer([Logger.map(Logger.formatJson, (line) => lines.push(line))])),
    Effect.provideService(References.MinimumLogLevel, "All"),
    Effect.provideService(Tracer.Tracer, tracer),
    Effect.provideService(SessionAudit.SessionAudit, SessionAudit.makeUnsafe())
  )
}

interface Line {
  readonly level: string
  readonly message: string
  readonly annotations: { readonly event?: string; readonly [name: string]: unknown }
}
const eventsIn = (lines: ReadonlyArray<string>) =>
  lines
    .map((line) => JSON.parse(line) as Line)
    .flatMap(({ annotations }) => (annotations.event === undefined ? [] : [annotations]))

describe("SessionAudit", () => {
  it.live("S10 no token, hash or nonce is in a log line or a span of a busy run; the events tell what happened", () =>
    collecting((lines, spans) =>
      Effect.gen(function* () {
        const { advance, another, connection, store } = yield* pgWorld
        const [here, there] = yield* Effect.all([instanceOver(store), instanceOver(another)])
        const secrets: Array<string> = []
        const seen = (browser: ReturnType<typeof client>) =>
          Option.match(browser.token(), {
            onNone: () => undefined,
            onSome: (token) => secrets.push(Redacted.value(token), SessionToken.hash(token))
          })
        const browser = client()
        const visitor = yield* browser.on(here)
        yield* visitor.modify((data) => ({ ...data, count: 1 }))
        seen(browser)
        const { id } = yield* visitor.authenticate("alice", { userAgent: "firefox", ip: "192.0.2.7" })
        seen(browser)
        const displacing = { policy: { maxPerPrincipal: 2, idleTimeout: "6 hours" } } as const
        const [second, third] = [client(), client()]
        const laptop = yield* second.on(there)
        yield* laptop.authenticate("alice", displacing)
        seen(second)
        yield* (yield* third.on(here)).authenticate("alice", displacing)
        seen(third)
        assert.strictEqual(yield* outcome(Effect.flatMap(browser.on(there), ({ record }) => record)), "SessionRevoked")
        yield* advance("61 minutes")
        yield* Effect.flatMap(third.on(there, { renews: true }), ({ id }) => id)
        seen(third)
        yield* Effect.scoped(Counter.open(Option.getOrThrow(third.token()))).pipe(
          Effect.provideService(Sessions.Sessions, here.sessions),
          Effect.withSpan("a request")
        )
        yield* (yield* third.on(here)).revokeOthers
        yield* outcome(Effect.flatMap(client(SessionToken.make()).on(here), ({ record }) => record))
        yield* (yield* third.on(here)).logout
        const fourth = client()
        yield* (yield* fourth.on(here)).authenticate("alice")
        seen(fourth)
        yield* (yield* fourth.on(there)).authenticate("bob")
        seen(fourth)
        yield* advance("13 hours")
        yield* outcome(Effect.flatMap(fourth.on(here), ({ record }) => record))
        yield* connection.query("alter table holdfast.sessions rename to hidden")
        yield* outcome(Effect.flatMap(client(SessionToken.make()).on(here), ({ record }) => record))
        const { rows } = yield* connection.query("select nonce from holdfast.session_tokens where nonce <> ''")
        for (const { nonce } of rows) secrets.push(Buffer.from(nonce as Uint8Array).toString("base64url"))

        const events = eventsIn(lines)
        assert.deepStrictEqual(
          events.map(({ by, event, reason }) => [event, by ?? reason].filter((part) => part !== undefined).join(" ")),
          [
            "session.created",
            "session.authenticated",
            "session.authenticated",
            "session.authenticated",
            "session.revoked cap",
            "session.ended",
            "session.renewed",
            "session.revoked owner",
            "session.unknown",
            "session.revoked logout",
            "session.authenticated",
            "session.revoked another login",
            "session.authenticated",
            "session.expired"
          ]
        )
        assert.deepInclude(events[1], {
          session: id,
          principal: "alice",
          device: { userAgent: "firefox", ip: "192.0.2.7" }
        })
        assert.deepInclude(events[4], { session: id, principal: "alice" })

        assert.isAbove(secrets.length, 14)
        assert.includeMembers(
          spans.map(({ name }) => name),
          ["a request", "test/Counter.open"]
        )
        const text =
          lines.join("\n") +
          inspect(
            spans.map(({ attributes, name, status }) => ({ attributes, name, status })),
            { depth: 20 }
          )
        for (const secret of secrets) assert.isFalse(text.includes(secret))
        assert.include(text, "session.authenticated")
      }).pipe(Effect.scoped)
    )
  )

  it.effect(
    "a burst of refused tokens is told within a minute though no other follows, and when the sessions close",
    () =>
      collecting((lines) =>
        Effect.gen(function* () {
          const audit = SessionAudit.makeUnsafe()
          const counts = () => eventsIn(lines).map(({ count }) => count)
          const guess = (times: number) =>
            Effect.repeat(audit.note({ _tag: "Refused", reason: "SessionMissing" }), { times: times - 1 })
          yield* Effect.gen(function* () {
            yield* Layer.build(Layer.fresh(Sessions.layer()))
            yield* guess(5)
            assert.deepStrictEqual(counts(), [1])
            yield* TestClock.adjust("1 minute")
            assert.deepStrictEqual(counts(), [1, 4])
            yield* TestClock.adjust("1 hour")
            assert.deepStrictEqual(counts(), [1, 4])
            yield* guess(4)
            yield* guess(3)
            assert.deepStrictEqual(counts(), [1, 4, 1])
          }).pipe(Effect.provideService(SessionAudit.SessionAudit, audit), Effect.scoped, Effect.provide(unprunedStore))
          assert.deepStrictEqual(counts(), [1, 4, 1, 6])
        })
      )
  )

  for (const set of ["forward", "back"] as const) {
    it.effect(`a burst of refused tokens is one line a minute, also when the clock is set ${set}`, () =>
      SkewedClock.settable((clock) =>
        collecting((lines) =>
          Effect.gen(function* () {
            const audit = yield* SessionAudit.SessionAudit
            const guess = audit.note({ _tag: "Refused", reason: "SessionMissing" })
            const counts = () => eventsIn(lines).map(({ count }) => count)
            yield* guess
            yield* clock[set]("1 hour")
            yield* TestClock.adjust("59 seconds")
            yield* guess
            assert.deepStrictEqual(counts(), [1])
            yield* TestClock.adjust("1 second")
            yield* guess
            assert.deepStrictEqual(counts(), [1, 2])
          })
        )
      )
    )
  }

  it.effect("counts every token that is refused, and logs a burst of them as one line a minute", () =>
    collecting((lines) =>
      Effect.gen(function* () {
        const audit = yield* SessionAudit.SessionAudit
        const refused = Metric.withAttributes(
          Metric.counter("holdfast_sessions_refused_total", {
            description: "Tokens refused, by reason",
            incremental: true
          }),
          { reason: "SessionMissing" }
        )
        const before = (yield* Metric.value(refused)).count
        const guess = Effect.repeat(audit.note({ _tag: "Refused", reason: "SessionMissing" }), { times: 499 })
        yield* guess
        yield* audit.note({ _tag: "Refused", reason: "SessionExpired" })
        assert.deepStrictEqual(
          eventsIn(lines).map(({ count, event }) => [event, count]),
          [
            ["session.unknown", 1],
            ["session.expired", 1]
          ]
        )
        yield* TestClock.adjust("1 minute")
        yield* guess
        assert.deepInclude(eventsIn(lines).at(-1), { event: "session.unknown", count: 500 })
        assert.lengthOf(eventsIn(lines), 3)
        assert.strictEqual(Number((yield* Metric.value(refused)).count) - Number(before), 1000)
      })
    )
  )

  it.live("tells the end of others as soon as the store says so, also when the waiting for it is given up", () =>
    Effect.gen(function* () {
      const noted: Array<SessionAudit.Event> = []
      const store = Context.get(yield* Layer.build(Layer.fresh(unprunedStore)), SessionStore)
      const here = yield* instanceOver(store)
      const [running, go] = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
      yield* Effect.gen(function* () {
        const [one, two] = [yield* client().on(here), yield* client().on(here)]
        yield* one.authenticate("alice")
        const { id } = yield* two.authenticate("alice")
        yield* two.run(
          Effect.ensuring(Effect.andThen(Deferred.succeed(running, undefined), Effect.never), Deferred.await(go))
        )
        yield* Deferred.await(running)
        noted.length = 0
        const ending = yield* Effect.forkChild(one.revokeOthers, { startImmediately: true })
        yield* eventually(
          Effect.sync(() => noted.length),
          (count) => count > 0
        )
        assert.isUndefined(ending.pollUnsafe(), "what the other session held is not released yet")
        yield* Fiber.interrupt(ending)
        assert.deepStrictEqual(noted, [{ _tag: "Revoked", session: id, principal: "alice", by: "owner" }])
        yield* Deferred.succeed(go, undefined)
      }).pipe(
        Effect.provideService(SessionAudit.SessionAudit, { note: (event) => Effect.sync(() => noted.push(event)) })
      )
    })
  )

  it.effect("another audit takes its place", () =>
    Effect.gen(function* () {
      const noted: Array<SessionAudit.Event> = []
      yield* Effect.provide(
        Effect.flatMap(SessionAudit.SessionAudit, (audit) => audit.note({ _tag: "Refused", reason: "SessionExpired" })),
        SessionAudit.layer({ note: (event) => Effect.sync(() => noted.push(event)) })
      )
      assert.deepStrictEqual(noted, [{ _tag: "Refused", reason: "SessionExpired" }])
    })
  )
})
