import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { BadResponse, ClientError, RefreshFailed, TokenRefused } from "../../src/client/ClientError.ts"
import { makeMemory, type TokenRepository } from "../../src/token/TokenRepository.ts"
import { type Issued, TokenSource } from "../../src/token/TokenSource.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { tokensOf } from "../support/tokens.ts"
import { claim, replace, replacement } from "../../src/testing/internal/TokenSamples.ts"

const origin = "https://tokens.example.com"
const refused = new ClientError({ reason: new TokenRefused({ origin, status: 400, code: "invalid_grant" }) })
const down = new ClientError({ reason: new RefreshFailed({ origin, problem: "it answered 503", last: undefined }) })

/** A source that does as it is told: time and order are the test's, which no server lets it have. */
const makeScripted = Effect.sync(() => {
  const script = {
    logins: 0,
    refreshes: 0,
    lifetime: Duration.hours(1) as Duration.Duration,
    /** What an exchange is, after it was counted. */
    login: Effect.void as Effect.Effect<void, ClientError>,
    refresh: Effect.void as Effect.Effect<void, ClientError>
  }
  let issued = 0
  const issue = Effect.sync((): Issued => {
    issued++
    return {
      access: { value: Redacted.make(`a${issued}`), lifetime: script.lifetime },
      refresh: { value: Redacted.make(`r${issued}`), lifetime: Duration.infinity }
    }
  })
  const source = TokenSource.of({
    origin,
    obtain: Effect.suspend(() => {
      script.logins++
      return Effect.andThen(script.login, issue)
    }),
    refresh: () =>
      Effect.suspend(() => {
        script.refreshes++
        return Effect.andThen(script.refresh, issue)
      })
  })
  return { script, source }
})

const world = Effect.gen(function* () {
  const { script, source } = yield* makeScripted
  const repository = yield* makeMemory
  return { script, source, repository, tokens: yield* tokensOf(source, repository) }
})

const valueOf = ({ value }: { readonly value: Redacted.Redacted }) => Redacted.value(value)
const start = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })
const many = <A, E>(effect: Effect.Effect<A, E>, count = 1000) =>
  Effect.all(
    Array.from({ length: count }, () => effect),
    { concurrency: "unbounded" }
  )

describe("AccessTokens", () => {
  it.effect("a thousand who find no token cause one login, and then none", () =>
    Effect.gen(function* () {
      const { script, tokens } = yield* world
      const got = yield* many(Effect.map(tokens.get, valueOf))
      assert.deepStrictEqual(new Set(got), new Set(["a1"]))
      yield* many(tokens.get)
      assert.deepStrictEqual([script.logins, script.refreshes], [1, 0])
    })
  )

  it.effect("a thousand who find an expired token cause one refresh, over all instances of the repository", () =>
    Effect.gen(function* () {
      const { repository, script, source, tokens } = yield* world
      const other = yield* tokensOf(source, repository)
      yield* tokens.get
      yield* TestClock.adjust("61 minutes")
      const gate = yield* Deferred.make<void>()
      script.refresh = Deferred.await(gate)
      const all = yield* start(Effect.all([many(tokens.get), many(other.get)], { concurrency: 2 }))
      yield* TestClock.adjust("1 second")
      yield* Deferred.succeed(gate, undefined)
      yield* TestClock.adjust("1 second")
      const got = (yield* Fiber.join(all)).flat().map(valueOf)
      assert.deepStrictEqual(new Set(got), new Set(["a2"]))
      assert.deepStrictEqual([script.logins, script.refreshes], [1, 1])
    })
  )

  it.effect("within the margin nobody waits, and one refresh happens in the background", () =>
    Effect.gen(function* () {
      const { script, tokens } = yield* world
      yield* tokens.get
      const gate = yield* Deferred.make<void>()
      script.refresh = Deferred.await(gate)
      yield* TestClock.adjust("59 minutes")
      const got = yield* many(tokens.get)
      assert.deepStrictEqual(new Set(got.map(valueOf)), new Set(["a1"]))
      assert.strictEqual(script.refreshes, 1)
      yield* Deferred.succeed(gate, undefined)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(valueOf(yield* tokens.get), "a2")
      assert.strictEqual(script.refreshes, 1)
    })
  )

  it.effect("the margin is at most half a lifetime, so that short tokens are used, too", () =>
    Effect.gen(function* () {
      const { script, tokens } = yield* world
      script.lifetime = Duration.seconds(20)
      yield* tokens.get
      yield* TestClock.adjust("9 seconds")
      yield* tokens.get
      assert.strictEqual(script.refreshes, 0)
      yield* TestClock.adjust("2 seconds")
      yield* tokens.get
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(script.refreshes, 1)
    })
  )

  it.effect("a refused refresh token is followed by one login, and its refusal fails all who wait at once", () =>
    Effect.gen(function* () {
      const { script, tokens } = yield* world
      yield* tokens.get
      yield* TestClock.adjust("61 minutes")
      script.refresh = Effect.fail(refused)
      assert.strictEqual(valueOf(yield* tokens.get), "a2")
      assert.deepStrictEqual([script.logins, script.refreshes], [2, 1])

      yield* TestClock.adjust("61 minutes")
      script.login = Effect.fail(refused)
      const errors = yield* many(Effect.flip(tokens.get))
      assert.deepStrictEqual(new Set(errors.map(({ reason }) => reason._tag)), new Set(["TokenRefused"]))
      yield* many(Effect.flip(tokens.get))
      assert.deepStrictEqual([script.logins, script.refreshes], [3, 2])
    })
  )

  it.effect("after a short pause a refused login is tried again, once for all instances", () =>
    Effect.gen(function* () {
      const { repository, script, source, tokens } = yield* world
      const other = yield* tokensOf(source, repository)
      script.login = Effect.fail(refused)
      yield* Effect.flip(tokens.get)
      const error = yield* Effect.flip(other.get)
      assert.strictEqual(error.reason._tag, "TokenRefused")
      assert.strictEqual(script.logins, 1)
      yield* TestClock.adjust("5 seconds")
      script.login = Effect.void
      assert.strictEqual(valueOf(yield* other.get), "a1")
      assert.strictEqual(valueOf(yield* tokens.get), "a1")
      assert.strictEqual(script.logins, 2)
    })
  )

  it.effect(
    "while the server is down a good token is used until it expires, and the log and the error tell how good",
    () =>
      Effect.gen(function* () {
        const lines: Array<string> = []
        const logger = Logger.make(({ message }) => lines.push(String(message)))
        yield* Effect.gen(function* () {
          const { script, tokens } = yield* world
          yield* tokens.get
          script.refresh = Effect.fail(down)
          yield* TestClock.adjust("59 minutes")
          assert.strictEqual(valueOf(yield* tokens.get), "a1")
          yield* TestClock.adjust("20 seconds")
          assert.strictEqual(valueOf(yield* tokens.get), "a1")
          yield* TestClock.adjust("1 millis")
          assert.lengthOf(lines, 2)
          assert.match(lines[1] ?? "", /it answered 503\. The last one, 3560 s old, is good for another 40 s\./)

          yield* TestClock.adjust("10 seconds")
          const { reason } = yield* Effect.flip(tokens.refresh)
          if (reason._tag !== "RefreshFailed") return assert.fail(reason._tag)
          assert.closeTo(reason.last?.validForMillis ?? 0, 30_000, 10)
          assert.closeTo(reason.last?.ageMillis ?? 0, 3_570_000, 10)

          yield* TestClock.adjust("40 seconds")
          const over = yield* Effect.flip(tokens.get)
          assert.match(over.message, /over since 10 s\. Try again later\./)

          script.refresh = Effect.void
          yield* TestClock.adjust("5 seconds")
          assert.strictEqual(valueOf(yield* tokens.get), "a2")
        }).pipe(Effect.provide(Logger.layer([logger])))
      })
  )

  it.effect("a malformed answer is the answer for all who wait, and is not taken for a refusal", () =>
    Effect.gen(function* () {
      const { script, tokens } = yield* world
      yield* tokens.get
      yield* TestClock.adjust("61 minutes")
      script.refresh = Effect.fail(new ClientError({ reason: new BadResponse({ origin, problem: "it is not JSON" }) }))
      const errors = yield* many(Effect.flip(tokens.get), 10)
      assert.deepStrictEqual(new Set(errors.map(({ reason }) => reason._tag)), new Set(["BadResponse"]))
      assert.deepStrictEqual([script.logins, script.refreshes], [1, 1])
    })
  )

  it.effect("a server that does not answer is given up at the timeout", () =>
    Effect.gen(function* () {
      const { script, tokens } = yield* world
      script.login = Effect.never
      const waiting = yield* start(Effect.flip(tokens.get))
      yield* TestClock.adjust("10 seconds")
      const error = yield* Fiber.join(waiting)
      assert.match(error.message, /no answer within 10s.*There is no older one/)
    })
  )

  it.effect("who gives up waiting disturbs nobody, and the exchange goes on", () =>
    Effect.gen(function* () {
      const { script, tokens } = yield* world
      const gate = yield* Deferred.make<void>()
      script.login = Deferred.await(gate)
      const first = yield* start(tokens.get)
      const second = yield* start(tokens.get)
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(first)
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual(valueOf(yield* Fiber.join(second)), "a1")
      assert.strictEqual(script.logins, 1)
    })
  )

  it.effect("only exactly the token that was rejected is replaced: a late 401 for an old one changes nothing", () =>
    Effect.gen(function* () {
      const { script, tokens } = yield* world
      const old = yield* tokens.get
      yield* tokens.invalidate(old)
      const other = yield* tokens.get
      assert.strictEqual(valueOf(other), "a2")
      yield* TestClock.adjust("10 seconds")
      yield* many(tokens.invalidate(old), 10)
      assert.strictEqual(yield* tokens.get, other)
      assert.strictEqual(script.refreshes, 1)
    })
  )

  it.effect("a token that another instance replaced is taken from the repository, not got again", () =>
    Effect.gen(function* () {
      const { repository, script, source, tokens } = yield* world
      const other = yield* tokensOf(source, repository)
      const [mine, theirs] = [yield* tokens.get, yield* other.get]
      assert.strictEqual(valueOf(mine), valueOf(theirs))
      yield* tokens.invalidate(mine)
      assert.strictEqual(valueOf(yield* tokens.get), "a2")
      yield* other.invalidate(theirs)
      assert.strictEqual(valueOf(yield* other.get), "a2")
      assert.deepStrictEqual([script.logins, script.refreshes], [1, 1])
    })
  )

  it.effect("a token that was rejected is not taken by an instance that begins later", () =>
    Effect.gen(function* () {
      const { repository, script, source, tokens } = yield* world
      yield* tokens.invalidate(yield* tokens.get)
      const other = yield* tokensOf(source, repository)
      assert.strictEqual(valueOf(yield* other.get), "a2")
      assert.deepStrictEqual([script.logins, script.refreshes], [1, 1])
    })
  )

  it.effect("a server that accepts no token does not use up the token server", () =>
    Effect.gen(function* () {
      const { script, tokens } = yield* world
      for (const _ of Array.from({ length: 20 })) yield* tokens.invalidate(yield* tokens.get)
      assert.strictEqual(script.refreshes, 1)
      yield* TestClock.adjust("5 seconds")
      yield* tokens.invalidate(yield* tokens.get)
      yield* tokens.get
      assert.strictEqual(script.refreshes, 2)
    })
  )

  it.effect("a rejected token is never handed out again where another instance has a newer one, however soon", () =>
    Effect.gen(function* () {
      const { repository, script, source, tokens } = yield* world
      const other = yield* tokensOf(source, repository)
      // One instance replaces the first token: for it, the pause begins.
      yield* tokens.invalidate(yield* tokens.get)
      const mine = yield* tokens.get
      assert.deepStrictEqual([mine, yield* other.get].map(valueOf), ["a2", "a2"])
      yield* TestClock.adjust("2 seconds")
      // The second one is withdrawn, and the other instance has the third when this one meets that.
      assert.strictEqual(valueOf(yield* other.refresh), "a3")
      yield* tokens.invalidate(mine)
      const got = yield* many(Effect.map(tokens.get, valueOf), 500)
      assert.deepStrictEqual(new Set(got), new Set(["a3"]))
      assert.deepStrictEqual([script.logins, script.refreshes], [1, 2])
    })
  )

  it.live("who met a 401 never goes on with the token that was refused, wherever the others are at that moment", () =>
    Effect.gen(function* () {
      for (let step = 2; step <= 12; step++) {
        const { script, source } = yield* makeScripted
        const repository = yield* makeMemory
        yield* replace(repository, "alice", replacement("refused", "r0"))
        const pair = [yield* tokensOf(source, repository), yield* tokensOf(source, repository)]
        const one = Effect.fnUntraced(function* (index: number) {
          const tokens = pair[index % 2]
          if (tokens === undefined) return []
          const first = yield* tokens.get
          for (const _ of Array.from({ length: (index * step) % 11 })) yield* Effect.yieldNow
          if (valueOf(first) !== "refused") return [valueOf(first)]
          yield* tokens.invalidate(first)
          return [valueOf(yield* tokens.get)]
        })
        const indices = Array.from({ length: 40 }, (_, index) => index)
        const got = (yield* Effect.forEach(indices, one, { concurrency: "unbounded" })).flat()
        assert.deepStrictEqual([new Set(got), got.length], [new Set(["a1"]), 40])
        assert.deepStrictEqual([script.logins, script.refreshes], [0, 1])
      }
    }).pipe(Effect.scoped, (work) =>
      Effect.forEach([3, 5, 13, 2048], (step) => Effect.provideService(work, Scheduler.MaxOpsBeforeYield, step))
    )
  )

  it.effect("a token that is got too soon after a rejected one is looked for in the repository again and again", () =>
    Effect.gen(function* () {
      const { repository, script, tokens } = yield* world
      yield* tokens.invalidate(yield* tokens.get)
      const second = yield* tokens.get
      yield* tokens.invalidate(second)
      assert.strictEqual(yield* tokens.get, second)
      yield* replace(repository, "alice", replacement("newer"))
      assert.strictEqual(valueOf(yield* tokens.get), "newer")
      assert.strictEqual(script.refreshes, 1)
    })
  )

  it.effect("a server that accepts no token does not use up the token server, over all instances", () =>
    Effect.gen(function* () {
      const { repository, script, source, tokens } = yield* world
      const all = [tokens, yield* tokensOf(source, repository), yield* tokensOf(source, repository)]
      const rejectEverything = Effect.forEach(all, (one) => Effect.flatMap(one.get, one.invalidate))
      for (const _ of Array.from({ length: 20 })) yield* rejectEverything
      assert.strictEqual(script.refreshes, 1)
      // One that begins now knows it, too.
      all.push(yield* tokensOf(source, repository))
      for (const _ of Array.from({ length: 10 })) {
        yield* TestClock.adjust("1 second")
        for (const _ of Array.from({ length: 20 })) yield* rejectEverything
      }
      assert.deepStrictEqual([script.logins, script.refreshes], [1, 3])
    })
  )

  it.effect("a token that could not be kept and is rejected does not bring back the one before it", () =>
    Effect.gen(function* () {
      const { script, source } = yield* makeScripted
      const memory = yield* makeMemory
      let isAway = false
      const tokens = yield* tokensOf(source, {
        ...memory,
        put: (key, owner, tokens) => (isAway ? Effect.fail(down) : memory.put(key, owner, tokens)),
        unlock: (key, owner, pause) => (isAway ? Effect.fail(down) : memory.unlock(key, owner, pause)),
        invalidate: (key, version) => (isAway ? Effect.fail(down) : memory.invalidate(key, version))
      })
      const first = yield* tokens.get
      isAway = true
      yield* tokens.invalidate(first)
      const waiting = yield* start(tokens.get)
      yield* TestClock.adjust("1 second")
      const second = yield* Fiber.join(waiting)
      assert.strictEqual(valueOf(second), "a2")
      isAway = false
      // Longer than the pause, and than the lock that could not be given back.
      yield* TestClock.adjust("20 seconds")
      yield* tokens.invalidate(second)
      assert.strictEqual(valueOf(yield* tokens.get), "a3")
      assert.strictEqual(script.refreshes, 2)
    })
  )

  it.effect("who asks for a new token gets one, also while a rejected one is still too young to be replaced", () =>
    Effect.gen(function* () {
      const { script, tokens } = yield* world
      yield* tokens.invalidate(yield* tokens.get)
      yield* tokens.invalidate(yield* tokens.get)
      const [asked, got] = yield* Effect.all([tokens.get, tokens.refresh], { concurrency: 2 })
      assert.strictEqual(valueOf(got), "a3")
      assert.include(["a2", "a3"], valueOf(asked))
      assert.strictEqual(script.refreshes, 2)
    })
  )

  it.effect("while the repository is away a rejected token that is too young to be replaced is all there is", () =>
    Effect.gen(function* () {
      const { source } = yield* makeScripted
      const memory = yield* makeMemory
      let isAway = false
      const tokens = yield* tokensOf(source, {
        ...memory,
        get: (key) => (isAway ? Effect.fail(down) : memory.get(key))
      })
      yield* tokens.invalidate(yield* tokens.get)
      const second = yield* tokens.get
      isAway = true
      yield* tokens.invalidate(second)
      assert.strictEqual(yield* tokens.get, second)
      yield* TestClock.adjust("5 seconds")
      const error = yield* Effect.flip(tokens.get)
      assert.match(error.message, /over since 5 s/)
    })
  )

  it.effect("a lock whose holder was killed is taken over when it is over", () =>
    Effect.gen(function* () {
      const { repository, script, tokens } = yield* world
      yield* repository.lock("alice", claim("killed", 0, "15 seconds"))
      const waiting = yield* start(many(tokens.get))
      yield* TestClock.adjust("14 seconds")
      assert.strictEqual(script.logins, 0)
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(waiting)
      assert.strictEqual(script.logins, 1)
    })
  )

  it.effect("a lock that never comes free is waited for as long as allowed", () =>
    Effect.gen(function* () {
      const { repository, script, tokens } = yield* world
      yield* repository.lock("alice", claim("busy", 0, "1 hour"))
      const waiting = yield* start(Effect.flip(tokens.get))
      yield* TestClock.adjust("31 seconds")
      assert.match((yield* Fiber.join(waiting)).message, /another instance has been at it for 30s/)
      assert.strictEqual(script.logins, 0)
    })
  )

  it.effect("what comes too late is thrown away, and the newer token is used", () =>
    Effect.gen(function* () {
      const { script, source } = yield* makeScripted
      const repository = yield* makeMemory
      const tokens = yield* tokensOf(source, {
        ...repository,
        // As if the process had been frozen for longer than its lock was good.
        lock: (key, claim) => repository.lock(key, { ...claim, limit: Duration.seconds(1) })
      })
      const gate = yield* Deferred.make<void>()
      script.login = Deferred.await(gate)
      const waiting = yield* start(tokens.get)
      yield* TestClock.adjust("2 seconds")
      yield* replace(repository, "alice", replacement("newer"))
      yield* Deferred.succeed(gate, undefined)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(valueOf(yield* Fiber.join(waiting)), "newer")
    })
  )

  it.effect("a repository that is away costs nobody a good token, and is RefreshFailed without one", () =>
    Effect.gen(function* () {
      const { script, source } = yield* makeScripted
      const memory = yield* makeMemory
      let isAway = false
      const gone = Effect.fail(down)
      const guard = <A>(work: Effect.Effect<A, ClientError>) => Effect.suspend(() => (isAway ? gone : work))
      const repository: TokenRepository["Service"] = {
        get: (key) => guard(memory.get(key)),
        lock: (key, claim) => guard(memory.lock(key, claim)),
        put: (key, owner, tokens) => guard(memory.put(key, owner, tokens)),
        unlock: (key, owner, pause) => guard(memory.unlock(key, owner, pause)),
        invalidate: (key, version) => guard(memory.invalidate(key, version))
      }
      const tokens = yield* tokensOf(source, repository)
      yield* tokens.get
      isAway = true
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual(valueOf(yield* tokens.get), "a1")
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual((yield* Effect.flip(tokens.get)).reason._tag, "RefreshFailed")
      assert.strictEqual(script.refreshes, 0)
      isAway = false
      yield* TestClock.adjust("1 second")
      assert.strictEqual(valueOf(yield* tokens.get), "a2")

      // Away in the middle of an exchange: what was got is used, though it is not kept.
      yield* TestClock.adjust("61 minutes")
      script.refresh = Effect.sync(() => {
        isAway = true
      })
      const waiting = yield* start(tokens.get)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(valueOf(yield* Fiber.join(waiting)), "a3")
      assert.strictEqual(valueOf(yield* tokens.get), "a3")
    })
  )

  it.effect(
    "the end interrupts the exchange, gives the lock back, and answers who waits and who comes with Closed",
    () =>
      Effect.gen(function* () {
        const { script, source } = yield* makeScripted
        const repository = yield* makeMemory
        const scope = yield* Scope.make()
        const tokens = yield* Scope.provide(tokensOf(source, repository), scope)
        let interrupted = 0
        script.login = Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
        const waiting = yield* start(Effect.flip(tokens.get))
        yield* TestClock.adjust("1 millis")
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual((yield* Fiber.join(waiting)).reason._tag, "Closed")
        assert.match((yield* Effect.flip(tokens.get)).message, /token of alice is closed\. Use it within/)
        assert.strictEqual((yield* Effect.flip(tokens.refresh)).reason._tag, "Closed")
        assert.strictEqual(interrupted, 1)
        assert.strictEqual((yield* repository.lock("alice", claim("next", 0)))._tag, "Locked")
        yield* LedgerRecorder.assertEmpty()
      }).pipe(Effect.provide(Ledger.layer))
  )

  it.effect("the end waits for a token that is being kept: one that the server rotated is not lost", () =>
    Effect.gen(function* () {
      const { source } = yield* makeScripted
      const repository = yield* makeMemory
      const [isPut, gate] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const scope = yield* Scope.make()
      const tokens = yield* Scope.provide(
        tokensOf(source, {
          ...repository,
          put: (key, owner, tokens) =>
            Deferred.succeed(isPut, undefined).pipe(
              Effect.andThen(Deferred.await(gate)),
              Effect.andThen(repository.put(key, owner, tokens))
            )
        }),
        scope
      )
      const waiting = yield* start(Effect.exit(tokens.get))
      yield* Deferred.await(isPut)
      const closing = yield* start(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1 second")
      assert.isUndefined(closing.pollUnsafe())
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(closing)
      yield* Fiber.join(waiting)
      const { refresh, version } = yield* repository.get("alice")
      assert.deepStrictEqual([version, refresh && Redacted.value(refresh)], [1, "r1"])
      assert.strictEqual((yield* repository.lock("alice", claim("next", 1)))._tag, "Locked")
    })
  )

  it.effect("a repository that fails for a moment is told the new token again, and it is kept", () =>
    Effect.gen(function* () {
      const { source } = yield* makeScripted
      const repository = yield* makeMemory
      let failures = 3
      const tokens = yield* tokensOf(source, {
        ...repository,
        put: (key, owner, tokens) =>
          Effect.suspend(() => (failures-- > 0 ? Effect.fail(down) : repository.put(key, owner, tokens)))
      })
      const waiting = yield* start(tokens.get)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(valueOf(yield* Fiber.join(waiting)), "a1")
      assert.strictEqual((yield* repository.get("alice")).version, 1)
    }).pipe(Effect.scoped)
  )

  it.effect("a token that is over when it comes is a BadResponse, and the server is left alone for the pause", () =>
    Effect.gen(function* () {
      for (const lifetime of [Duration.zero, Duration.millis(900)]) {
        const { script, tokens } = yield* world
        script.lifetime = lifetime
        script.login = Effect.sleep("1 second")
        const waiting = yield* start(many(Effect.flip(tokens.get), 10))
        yield* TestClock.adjust("2 seconds")
        const errors = yield* Fiber.join(waiting)
        assert.deepStrictEqual(new Set(errors.map(({ reason }) => reason._tag)), new Set(["BadResponse"]))
        assert.match(errors[0]?.message ?? "", /over when it came/)
        yield* many(Effect.flip(tokens.get), 10)
        assert.strictEqual(script.logins, 1)
      }
    })
  )

  it.effect("a time that makes no sense is refused, and named", () =>
    Effect.gen(function* () {
      const { source } = yield* makeScripted
      const repository = yield* makeMemory
      const wrong = {
        refreshMargin: [-1, "soon", "Infinity"],
        timeout: [0, -1, "soon", "Infinity"],
        pause: [-1, "soon", "Infinity"],
        waitLimit: [-1, "soon", "Infinity"]
      }
      for (const [field, values] of Object.entries(wrong)) {
        for (const value of values) {
          const error = yield* Effect.flip(tokensOf(source, repository, { [field]: value }))
          assert.deepInclude(error.reason, { _tag: "InvalidConfig", field })
        }
      }
    })
  )

  it.effect("a key that no repository could keep is refused", () =>
    Effect.gen(function* () {
      const { source } = yield* makeScripted
      const repository = yield* makeMemory
      for (const key of ["", "a\0b", "x".repeat(201), "\ud800"]) {
        const error = yield* Effect.flip(tokensOf(source, repository, { key }))
        assert.match(error.message, /key must have 1 to 200 characters/)
      }
    })
  )
})
