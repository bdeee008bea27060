/**
 * Random operations by many fibers on two instances of a store, interrupted at any point, against a model.
 *
 * The model holds what is certain (what an operation that returned has done before another began) and what is possible
 * (what an operation that began may have done, or may still do after it was interrupted). What contradicts the certain is a
 * violation, and so is a refusal that is not even possible. Time stands still while operations run.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Scheduler from "effect/Scheduler"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Session from "../../src/session/Session.ts"
import * as SessionAudit from "../../src/session/SessionAudit.ts"
import type { SessionError } from "../../src/session/SessionError.ts"
import type { SessionId } from "../../src/session/SessionId.ts"
import { Sessions } from "../../src/session/Sessions.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import type { SessionToken } from "../../src/session/SessionToken.ts"
import { scale } from "../../src/testing/InterruptSweep.ts"
import { contradictions, redisWorld } from "../support/redisSessions.ts"
import { pgWorld, unprunedStore } from "../support/sessions.ts"
import { instanceOver, type World } from "./sessionHandleLaws.ts"

const fibers = 20
const seed = Number(process.env.HOLDFAST_TEST_SEED ?? Date.now() % 1_000_000)

const Data = Schema.Struct({ total: Schema.Int, by: Schema.Record(Schema.String, Schema.Int) })
class Tally extends Session.Service<Tally>()("test/Tally", {
  data: Data,
  initial: { total: 0, by: {} },
  // Every token is due at once.
  renewEvery: 0
}) {}

const minutes = (count: number) => count * 60_000
const idle = minutes(30)
const absolute = minutes(12 * 60)
const touch = minutes(1)
const grace = 30_000
/** How long the test itself may take: the store's clock goes on a little while the model's stands still. */
const drift = minutes(5)

/** What is known of a session; `may…` is what is possible. */
interface Known {
  readonly written: Map<number, number>
  total: number
  principal: string | null
  ended: boolean
  mayHaveEnded: boolean
  mayBeReplaced: boolean
  bornAt: number
  mayBeBornAt: number
  seenAt: number
  mayBeSeenAt: number
}

/** What is known of a token. */
interface Held {
  readonly session: Known
  readonly predecessor: Held | undefined
  replaced: boolean
  followedAt: number | undefined
  mayBeFollowed: boolean
  /** It was presented in vain by somebody who then began another session: what that comes to is its fate, too. */
  mayBeTaken: boolean
}

class Model {
  readonly sessions = new Map<SessionId, Known>()
  readonly tokens = new Map<string, Held>()
  readonly counts: Record<string, number> = {}
  readonly violations: Array<string> = []
  now = 0

  count(what: string) {
    this.counts[what] = (this.counts[what] ?? 0) + 1
  }
  wrong(what: string) {
    this.violations.push(what)
  }
  session(id: SessionId): Known {
    const known = this.sessions.get(id) ?? {
      written: new Map(),
      total: 0,
      principal: null,
      ended: false,
      mayHaveEnded: false,
      mayBeReplaced: false,
      bornAt: Number.NEGATIVE_INFINITY,
      mayBeBornAt: Number.POSITIVE_INFINITY,
      seenAt: Number.NEGATIVE_INFINITY,
      mayBeSeenAt: Number.POSITIVE_INFINITY
    }
    this.sessions.set(id, known)
    return known
  }
  held(token: SessionToken, session: Known, predecessor?: Held): Held {
    const text = Redacted.value(token)
    const held = this.tokens.get(text) ?? {
      session,
      predecessor,
      replaced: false,
      followedAt: undefined,
      mayBeFollowed: false,
      mayBeTaken: false
    }
    this.tokens.set(text, held)
    return held
  }
  mustRefuse({ followedAt, replaced, session }: Held): string | undefined {
    if (session.ended) return "revoked"
    if (this.now > session.mayBeBornAt + absolute || this.now > session.mayBeSeenAt + idle + touch) return "expired"
    if (replaced || (followedAt !== undefined && this.now > followedAt + grace)) return "superseded"
    return undefined
  }
  mayRefuse({ mayBeFollowed, mayBeTaken, session }: Held, reason: SessionError["reason"]["_tag"]): boolean {
    if (mayBeTaken) return reason !== "SessionMissing"
    const late = this.now + drift
    // Of a session whose beginning was interrupted nobody knows the principal, nor who may end it.
    if (reason === "SessionRevoked") return session.mayHaveEnded || session.bornAt === Number.NEGATIVE_INFINITY
    if (reason === "SessionExpired") return late > session.bornAt + absolute || late > session.seenAt + idle
    if (reason === "SessionSuperseded") return session.mayBeReplaced || mayBeFollowed
    return false
  }
}

/** The same for the same seed (mulberry32). */
const randomOf = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
}

interface Browser {
  token: Option.Option<SessionToken>
}

/** One operation of a fiber: what it does is decided before it begins. */
const operation = (model: Model, browser: Browser, fiber: string, step: number, random: () => number) => {
  const action = random()
  const renews = random() < 0.3
  // Alice has room for three sessions only, and alice and bob end their other ones: those may go at any time.
  const principal = ["alice", "bob", "carol"][Math.floor(random() * 3)] ?? "carol"
  const limits = { maxPerPrincipal: principal === "alice" ? 3 : 1000 }
  const fleeting = principal !== "carol"

  return Effect.gen(function* () {
    const presented = browser.token
    const before = Option.getOrUndefined(Option.map(presented, (token) => model.tokens.get(Redacted.value(token))))
    let issued: SessionToken | undefined
    const handle = yield* Tally.handle({
      token: presented,
      ...(renews && { onDue: (renew: Effect.Effect<boolean, SessionError>) => Effect.ignore(renew) }),
      onToken: (change) =>
        Effect.sync(() => {
          browser.token = Option.map(change, ({ token }) => token)
          issued = Option.getOrUndefined(browser.token) ?? issued
        })
    })

    const must = before === undefined ? undefined : model.mustRefuse(before)
    const sure = { total: before?.session.total ?? 0, written: new Map(before?.session.written) }
    if (before !== undefined) {
      before.session.mayBeSeenAt = Number.POSITIVE_INFINITY
      if (renews) before.mayBeFollowed = true
      if (before.predecessor !== undefined) before.predecessor.mayBeFollowed = true
    }
    const loaded = yield* Effect.result(handle.id)
    if (Result.isFailure(loaded)) {
      const { _tag } = loaded.failure.reason
      model.count(`refused ${_tag}`)
      if (before !== undefined && !model.mayRefuse(before, _tag)) model.wrong(`refused without cause: ${_tag}`)
      if (before !== undefined && (action < 0.4 || (action >= 0.7 && action < 0.82))) before.mayBeTaken = true
    } else if (must !== undefined) model.wrong(`${must}, but accepted`)
    const id = Result.getOrUndefined(loaded)
    const session = id === undefined ? undefined : model.session(id)
    if (session !== undefined && Option.isSome(presented)) {
      model.count("accepted")
      const held = model.held(presented.value, session)
      Object.assign(session, { seenAt: model.now, mayBeSeenAt: model.now })
      if (held.predecessor !== undefined) held.predecessor.followedAt ??= model.now
      if (issued !== undefined) {
        model.count("renewed")
        model.held(issued, session, held)
      }
    }

    const check = (data: typeof Data.Type) => {
      if (data.total < sure.total) model.wrong(`lost update: total ${data.total}, was ${sure.total}`)
      for (const [other, last] of sure.written) {
        if ((data.by[other] ?? 0) < last) model.wrong(`lost update of fiber ${other}`)
      }
    }
    const adopt = (owner: string | null) =>
      Effect.map(Effect.option(handle.id), (id) => {
        if (Option.isNone(id) || issued === undefined) return
        const known = model.session(id.value)
        const { now } = model
        Object.assign(known, { principal: owner, bornAt: now, mayBeBornAt: now, seenAt: now, mayBeSeenAt: now })
        if (owner !== null && fleeting) known.mayHaveEnded = true
        model.held(issued, known)
        return known
      })

    if (action < 0.4) {
      if (session !== undefined) Object.assign(sure, { total: session.total, written: new Map(session.written) })
      const wasEnded = session?.ended === true
      const change = ({ by, total }: typeof Data.Type) => ({ total: total + 1, by: { ...by, [fiber]: step } })
      const replaced = Effect.flatMap(handle.versioned, (read) => handle.replace(change(read.data), read))
      const changed = yield* Effect.result(
        action < 0.35 ? handle.modify(change) : Effect.map(replaced, ({ data }) => data)
      )
      if (Result.isFailure(changed)) return model.count(`unchanged ${changed.failure.reason._tag}`)
      model.count("changed")
      if (wasEnded) model.wrong("brought back")
      if (session !== undefined) check(changed.success)
      const known = session ?? (yield* adopt(null))
      if (known === undefined) return
      known.total++
      known.written.set(Number(fiber), Math.max(step, known.written.get(Number(fiber)) ?? 0))
    } else if (action < 0.7) {
      const data = yield* Effect.result(handle.data)
      if (Result.isSuccess(data) && session !== undefined && before !== undefined) {
        model.count("read")
        check(data.success)
      }
    } else if (action < 0.82) {
      const others = Array.from(model.tokens.values()).filter((held) => held.session === session)
      if (session !== undefined) {
        Object.assign(session, { mayBeReplaced: true, mayBeBornAt: Number.POSITIVE_INFINITY })
        const isAnothers = session.principal !== null && session.principal !== principal
        if (fleeting || isAnothers) session.mayHaveEnded = true
        if (before !== undefined && isAnothers) before.mayBeTaken = true
      }
      const record = yield* Effect.result(handle.authenticate(principal, { policy: limits }))
      if (Result.isFailure(record)) return model.count(`no login ${record.failure.reason._tag}`)
      model.count("logged in")
      if (record.success.id === id) for (const held of others) held.replaced = true
      yield* adopt(principal)
    } else if (action < 0.88) {
      if (session !== undefined) session.mayHaveEnded = true
      yield* Effect.ignore(handle.logout)
      if (session !== undefined) session.ended = true
    } else if (action < 0.92) {
      const owner = yield* handle.principal
      if (owner === null || owner === "carol") return
      const theirs = Array.from(model.sessions.values()).filter(
        (known) => known !== session && known.principal === owner
      )
      for (const known of theirs) known.mayHaveEnded = true
      const revoked = yield* Effect.result(handle.revokeOthers)
      if (Result.isSuccess(revoked)) for (const known of theirs) known.ended = true
    } else {
      const over = new Set(Array.from(model.sessions).flatMap(([other, { ended }]) => (ended ? [other] : [])))
      const devices = yield* Effect.result(handle.devices)
      if (Result.isFailure(devices)) return
      for (const { id } of devices.success) if (over.has(id)) model.wrong("listed, but over")
    }
  }).pipe(Effect.scoped)
}

const play = Effect.fnUntraced(
  function* ({ advance, here, there }: World, operations: number) {
    const model = new Model()
    const browsers: ReadonlyArray<Browser> = Array.from({ length: 24 }, () => ({ token: Option.none() }))
    // Operations share the time; moving it needs it alone.
    const time = Semaphore.makeUnsafe(fibers)
    const audit: SessionAudit.SessionAudit = {
      note: (event) =>
        Effect.sync(() => {
          model.count(event._tag)
          if (event._tag === "Revoked") Object.assign(model.session(event.session), { ended: true, mayHaveEnded: true })
        })
    }
    const moveTime = (random: () => number) => {
      const kind = random()
      const by = kind < 0.4 ? 31_000 : kind < 0.7 ? minutes(10) : kind < 0.93 ? minutes(40) : absolute + minutes(5)
      const moved = Effect.andThen(
        advance(Duration.millis(by)),
        Effect.sync(() => (model.now += by))
      )
      return time.withPermits(fibers)(moved)
    }

    const work = Effect.fnUntraced(function* (fiber: number) {
      const random = randomOf(seed + fiber)
      for (let step = 1; step <= operations; step++) {
        if (random() < 1 / 100) yield* moveTime(random)
        const browser = browsers[Math.floor(random() * browsers.length)] ?? { token: Option.none() }
        const instance = random() < 0.5 ? here : there
        const one = operation(model, browser, String(fiber), step, random).pipe(
          Effect.provideService(Sessions, instance.sessions),
          Effect.provideService(SessionAudit.SessionAudit, audit),
          Effect.provideService(Scheduler.MaxOpsBeforeYield, 3 + Math.floor(random() * 60))
        )
        const isInterrupted = random() < 0.2
        const delay = Math.floor(random() * 30)
        const wait = random() < 0.5 ? Effect.sleep(delay / 6) : Effect.repeat(Effect.yieldNow, { times: delay })
        yield* time.withPermits(1)(
          Effect.gen(function* () {
            const running = yield* Effect.forkChild(one)
            if (!isInterrupted) return yield* Fiber.join(running)
            yield* wait
            model.count("interrupted")
            yield* Fiber.interrupt(running)
          })
        )
      }
    })
    yield* Effect.all(
      Array.from({ length: fibers }, (_, fiber) => work(fiber)),
      { concurrency: "unbounded" }
    )

    const { counts, violations } = model
    const summary = JSON.stringify({ seed, counts, sessions: model.sessions.size, tokens: model.tokens.size })
    assert.deepStrictEqual(
      Array.from(new Set(violations)),
      [],
      `${Array.from(new Set(violations)).join(", ")} ${summary}`
    )
    for (const happened of ["accepted", "changed", "read", "logged in", "renewed", "interrupted", "Revoked"]) {
      assert.isAbove(counts[happened] ?? 0, 20, `${happened}: ${summary}`)
    }
    for (const reason of ["SessionRevoked", "SessionExpired", "SessionSuperseded"]) {
      assert.isAbove(counts[`refused ${reason}`] ?? 0, 5, `${reason}: ${summary}`)
    }
    return summary
  },
  Effect.provideService(References.MinimumLogLevel, "Error")
)

/** The system's clock and an offset, so that a test can move the time of a store in memory. */
const movable = Effect.map(Clock.Clock, (clock) => {
  let offset = 0
  const currentTimeMillisUnsafe = () => clock.currentTimeMillisUnsafe() + offset
  const currentTimeNanosUnsafe = () => clock.currentTimeNanosUnsafe() + BigInt(offset) * 1_000_000n
  const monotonicTimeNanosUnsafe = () => clock.monotonicTimeNanosUnsafe() + BigInt(offset) * 1_000_000n
  return {
    advance: (by: Duration.Input) =>
      Effect.sync(() => void (offset += Duration.toMillis(Duration.fromInputUnsafe(by)))),
    clock: {
      currentTimeMillisUnsafe,
      currentTimeNanosUnsafe,
      currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
      currentTimeNanos: Effect.sync(currentTimeNanosUnsafe),
      monotonicTimeNanosUnsafe,
      monotonicTimeNanos: Effect.sync(monotonicTimeNanosUnsafe),
      sleep: (duration: Duration.Duration) => clock.sleep(duration)
    }
  }
})

describe("the model of sessions", () => {
  it.live(
    "nothing is lost, brought back or accepted too late, over memory",
    () =>
      Effect.gen(function* () {
        const { advance, clock } = yield* movable
        yield* Effect.gen(function* () {
          const store = Context.get(yield* Layer.build(Layer.fresh(unprunedStore)), SessionStore)
          const [here, there] = yield* Effect.all([instanceOver(store), instanceOver(store)])
          yield* play({ here, there, advance }, 500 * scale)
        }).pipe(Effect.scoped, Effect.provideService(Clock.Clock, clock))
      }),
    120_000 * scale
  )

  it.live(
    "nothing is lost, brought back or accepted too late, over PostgreSQL",
    () =>
      Effect.gen(function* () {
        const { advance, another, store } = yield* pgWorld
        const [here, there] = yield* Effect.all([instanceOver(store), instanceOver(another)])
        yield* play({ here, there, advance }, 150 * scale)
      }).pipe(Effect.scoped),
    300_000 * scale
  )

  it.live(
    "nothing is lost, brought back or accepted too late, over Redis, and no index leaks or misses a session",
    () =>
      Effect.gen(function* () {
        const { advance, another, client, prefix, store } = yield* redisWorld
        const [here, there] = yield* Effect.all([instanceOver(store), instanceOver(another)])
        yield* play({ here, there, advance }, 150 * scale)
        // What was interrupted goes on until it is answered.
        yield* Effect.all([store.ping, another.ping])
        assert.deepStrictEqual(yield* contradictions(client, prefix), [])
      }).pipe(Effect.scoped),
    300_000 * scale
  )
})
