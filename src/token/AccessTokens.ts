/**
 * The access token of one account, always a good one, got once however many ask for it.
 *
 * What is here lives as long as the scope it was made in; the token itself lives in the `TokenRepository`, where all instances
 * of the program find it. A thousand requests that meet an expired token, in however many processes, cause one exchange
 * with the token server: those of a process wait for one fiber, and the fibers of all processes for one lock.
 *
 * **Details**
 *
 * - Within the refresh margin the token is replaced in the background and nobody waits. While that fails, the one that is still
 *   good goes on being used, and the log says why.
 * - A refused refresh token is followed by one login. What the server refuses or leaves unanswered is the answer for all who
 *   wait, in all processes, and for those who come within a short pause; then it is asked again.
 * - A rejected token is followed by one with a higher version, from any process: it is looked for in the repository before anybody
 *   exchanges, and each time somebody asks. Only where there is none, and the rejected one is itself what took a
 *   rejected one's place less than a pause ago, is there no exchange: that did not help a moment ago. The rejected one is given
 *   then, so that what the server says about it reaches the caller.
 * - A process that is killed in the middle of an exchange holds the lock until it expires; then another goes on. If the
 *   killed one wakes up, what it brings is thrown away.
 * - Expiry counts from before the server was asked, and no clock but the repository's and a monotonic one is looked at.
 *
 * **Gotchas**
 *
 * Where the repository cannot be reached, a token that is good is used until it expires; then there is none, because nobody
 * may refresh without the lock. A token that could be had but not kept is used by this instance alone.
 *
 * An exchange that the end of the scope interrupts may have given a rotated refresh token that is lost with it: then the next
 * one logs in.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import { randomUUID } from "node:crypto"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as Lifetime from "../lifetime/Lifetime.ts"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import * as TimeLimit from "../lifetime/TimeLimit.ts"
import { BadResponse, ClientError, Closed, RefreshFailed } from "../client/ClientError.ts"
import { time } from "../client/internal/ClientSessionOptions.ts"
import * as KnownToken from "./internal/KnownToken.ts"
import * as TokenKey from "./internal/TokenKey.ts"
import { type Attempt, type Failure, type Kept, type Replacement, TokenRepository } from "./TokenRepository.ts"
import { TokenSource } from "./TokenSource.ts"

/** A token as `get` gives it. */
export interface AccessToken {
  readonly value: Redacted.Redacted
}

/** Whose token, and how it is looked after. */
export interface Options {
  /**
   * Names the account in the repository, in the log and the ledger: up to 200 characters, the same in all instances,
   * different for each account. Not secret.
   */
  readonly key: string
  /** How long before its expiry a token is replaced; at most half its lifetime. Default: 1 minute. */
  readonly refreshMargin?: Duration.Input | undefined
  /** How long the token server has to answer, a login that follows on a refusal included. Default: 10 seconds. */
  readonly timeout?: Duration.Input | undefined
  /**
   * How long a failure is the answer before the server is asked again; also how old a token that took the place of a
   * rejected one has to be before it is replaced for being rejected, too. Default: 5 seconds.
   */
  readonly pause?: Duration.Input | undefined
  /** How long to wait for another instance that has the lock. Default: 30 seconds. */
  readonly waitLimit?: Duration.Input | undefined
}

/** Looks after the token of an account. */
export class AccessTokens extends Context.Service<
  AccessTokens,
  {
    /**
     * A token that is good now. Fails with `TokenRefused`, `BadResponse` or, where token server or repository do not
     * answer, `RefreshFailed`; with `Closed` after the end of the scope.
     */
    readonly get: Effect.Effect<AccessToken, ClientError>
    /**
     * A new token, though the present one may still be good. A `RefreshFailed` tells how old that one is and for how
     * long it is good; whatever the failure, it stays in use until then.
     */
    readonly refresh: Effect.Effect<AccessToken, ClientError>
    /**
     * Somebody would not accept exactly this token: the next `get` gives a newer one, unless there is none and the last
     * replacement did not help either (see `pause`). Does nothing when it was replaced since. Never fails: what the
     * repository cannot be told, this instance knows.
     */
    readonly invalidate: (token: AccessToken) => Effect.Effect<void>
  }
>()("holdfast/token/AccessTokens") {}

/** Why there is no new token, and for how long not to ask again. */
interface Failed {
  readonly error: ClientError
  readonly pauseMillis: number
}

/** What came of one attempt to replace a token. */
type Outcome = { readonly _tag: "Replaced" | "Overtaken" } | Exclude<Attempt, { readonly _tag: "Locked" }>

/** One fiber on its way to a newer token, for all who wait. It is over in the moment in which that token is known. */
interface Flight {
  readonly landed: Deferred.Deferred<AccessToken, ClientError>
  /** Whether somebody wants a new token, whatever became of the last one. */
  isWanted: boolean
}

const exchanges = Metric.counter("holdfast_token_exchanges_total", {
  description: "Exchanges with token servers, by outcome",
  incremental: true
})

const counted = <A>(exchange: Effect.Effect<A, ClientError>): Effect.Effect<A, ClientError> =>
  Effect.onExit(exchange, (exit) => {
    const error = Option.getOrUndefined(Exit.findErrorOption(exit))
    const outcome = Exit.isSuccess(exit) ? "Issued" : (error?.reason._tag ?? "Interrupted")
    return Metric.update(Metric.withAttributes(exchanges, { outcome }), 1)
  })

/** Between looks at a lock that another instance holds, in milliseconds: at first, and at most. */
const shortestWait = 20
const longestWait = 250

/** How long not to ask a repository again that did not answer, at most. */
const repositoryPauseMillis = 1000

const zero = { be: "zero" } as const

/** Makes it; its work ends with the current scope. Fails with `InvalidConfig`, which names the option, where one makes no sense. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const { key } = options
  yield* TokenKey.check(key)
  const source = yield* TokenSource
  const repository = yield* TokenRepository
  const clock = yield* Clock.Clock
  const marginMillis = Duration.toMillis(yield* time("refreshMargin", options.refreshMargin ?? "1 minute", zero))
  const timeout = yield* time("timeout", options.timeout ?? "10 seconds", { be: "positive" })
  const pause = yield* time("pause", options.pause ?? "5 seconds", zero)
  const pauseMillis = Duration.toMillis(pause)
  const waitLimitMillis = Duration.toMillis(yield* time("waitLimit", options.waitLimit ?? "30 seconds", zero))
  // Longer than everything that is done under it.
  const lockLimit = Duration.sum(timeout, Duration.seconds(5))

  const unavailable = (problem: string) =>
    new ClientError({ reason: new RefreshFailed({ origin: source.origin, problem, last: undefined }) })
  const stillborn = Effect.fail(
    new ClientError({ reason: new BadResponse({ origin: source.origin, problem: "the token was over when it came" }) })
  )
  const closed = Effect.fail(
    new ClientError({ reason: new Closed({ client: `What looks after the token of ${key}` }) })
  )

  const lifetime = yield* Lifetime.scoped({ kind: "access tokens", id: key })
  const run = yield* Lifetime.within(lifetime)(FiberSet.makeRuntime<never>())
  const within = yield* Lifetime.within(lifetime)(
    TimeLimit.make(timeout, (limit) => unavailable(`no answer within ${limit}`))
  )
  const nowMillis = () => SteadyClock.millis(clock)

  const known = KnownToken.make({ marginMillis, pauseMillis, nowMillis })
  let paused: { readonly error: ClientError; readonly until: number } | undefined
  let flight: Flight | undefined

  /** The failure of a moment ago that is still the answer. */
  const pausedFor = () => (paused !== undefined && nowMillis() < paused.until ? paused.error : undefined)

  /** Answers all who wait. Who comes from now on finds what is known. */
  const land = (outcome: Effect.Effect<AccessToken, ClientError>) => {
    if (flight !== undefined) Deferred.doneUnsafe(flight.landed, outcome)
    flight = undefined
  }

  const landWith = (token: AccessToken) => {
    paused = undefined
    land(Effect.succeed(token))
  }

  const ask = (kept: Kept): Effect.Effect<Replacement, ClientError> => {
    const { refresh } = kept
    const login = counted(source.obtain)
    if (refresh === undefined) return login
    return counted(source.refresh(refresh)).pipe(
      Effect.map((issued): Replacement => {
        const { access, refresh: rotated = { value: refresh, lifetime: undefined } } = issued
        return { access, refresh: rotated }
      }),
      Effect.catchReason("ClientError", "TokenRefused", () => login)
    )
  }

  /** With the lock: gets a new token and keeps it, unless another has the lock by now, and decides. */
  const replace = (kept: Kept, owner: string, began: number) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const replacement = yield* restore(within(ask(kept)))
        const put = yield* repository.put(key, owner, replacement).pipe(
          Effect.map((version) => ({ version, isKept: true })),
          Effect.retry({ schedule: Schedule.spaced("100 millis"), times: 3 }),
          Effect.catch((error) =>
            Effect.as(
              LogEvent.warning(
                { event: "token.unsaved", key },
                `The new token of ${key} is used, but could not be kept`,
                error.message
              ),
              {
                version: kept.version,
                isKept: false
              }
            )
          )
        )
        const { isKept, version } = put
        if (version === undefined) return false
        const { lifetime, value } = replacement.access
        const validUntil = began + Duration.toMillis(lifetime)
        // Else each request would have another one got that is of no use to it. A rotated refresh token is kept by now.
        if (!(validUntil > nowMillis())) return yield* stillborn
        const isNew = { isRejected: false, isSecondTry: false }
        landWith(known.learn({ ...isNew, value, version, isKept, obtainedAt: began, validUntil }))
        return true
      })
    )

  /** Gives the lock back; a failure becomes the answer for those who wait elsewhere. */
  const unlock = (owner: string, exit: Exit.Exit<unknown, Failed>) => {
    const failed = Option.getOrUndefined(Exit.findErrorOption(exit))
    const failure = failed && failureOf(failed.error, source.origin)
    return repository
      .unlock(key, owner, failure && { failure, length: pause })
      .pipe(
        Effect.catch((error) =>
          LogEvent.debug(
            { event: "token.lock", key },
            `The lock of ${key} could not be given back and expires`,
            error.message
          )
        )
      )
  }

  const attempt = (kept: Kept, began: number) => {
    const owner = randomUUID()
    return Effect.acquireUseRelease(
      asked(repository.lock(key, { owner, version: kept.version, limit: lockLimit })),
      (outcome): Effect.Effect<Outcome, Failed> =>
        outcome._tag === "Locked"
          ? replace(kept, owner, began).pipe(
              Effect.map((isReplaced): Outcome => ({ _tag: isReplaced ? "Replaced" : "Overtaken" })),
              Effect.mapError((error): Failed => ({ error, pauseMillis }))
            )
          : Effect.succeed(outcome),
      (outcome, exit) => (outcome._tag === "Locked" && Exit.isFailure(exit) ? unlock(owner, exit) : Effect.void)
    )
  }

  /** Takes what is kept, if it is newer than what is known, and lands with it, if it is good for longer than the margin. */
  const take = ({ access, version }: Kept, began: number): boolean => {
    if (access === undefined || !known.isNewer(version)) return false
    const { ageMillis, validForMillis, ...token } = access
    const times = { obtainedAt: began - ageMillis, validUntil: began + validForMillis }
    const learnt = known.learn({ ...token, ...times, version, isKept: true })
    if (known.isDue()) return false
    landWith(learnt)
    return true
  }

  /** Finds a newer token than the one that is known: one that is kept by now, or a new one. */
  const fly = Effect.fnUntraced(function* (self: Flight): Effect.fn.Return<void, Failed> {
    let patience = nowMillis() + waitLimitMillis
    let wait = shortestWait
    while (true) {
      const began = nowMillis()
      const kept = yield* asked(repository.get(key))
      if (take(kept, began)) return
      const rejected = self.isWanted ? undefined : known.tooYoung()
      if (rejected !== undefined) return landWith(rejected)
      const outcome = yield* attempt(kept, began).pipe(
        // This process stood still until its lock was over: what another instance has got since is the answer.
        Effect.catchIf(
          () => nowMillis() - began >= Duration.toMillis(lockLimit),
          () => {
            patience = nowMillis() + waitLimitMillis
            return Effect.succeed<Outcome>({ _tag: "Changed" })
          }
        )
      )
      if (outcome._tag === "Replaced") return
      if (outcome._tag === "Paused") {
        const error = new ClientError({ reason: outcome.failure })
        return yield* Effect.fail({ error, pauseMillis: Math.min(outcome.forMillis, pauseMillis) })
      }
      if (nowMillis() >= patience) {
        const limit = Duration.format(Duration.millis(waitLimitMillis))
        return yield* Effect.fail({
          error: unavailable(`another instance has been at it for ${limit}`),
          pauseMillis: 0
        })
      }
      if (outcome._tag === "Busy") {
        yield* Effect.sleep(Math.min(wait, outcome.forMillis))
        wait = Math.min(wait * 2, longestWait)
      }
    }
  })

  /** Sends one fiber for a token, for all who wait and will wait. */
  const depart = (isWanted: boolean): Flight => {
    const self: Flight = (flight = { landed: Deferred.makeUnsafe(), isWanted })
    const trip = Effect.tapError(fly(self), ({ error }) =>
      LogEvent.warning({ event: "token.refused", key }, `There is no new token for ${key}`, known.dated(error).message)
    )
    run(trip).addObserver((exit) => {
      if (flight !== self || Exit.isSuccess(exit)) return
      const failed = Cause.findError(exit.cause)
      // Also when it never began, because the scope was closed.
      if (Result.isFailure(failed))
        return land(Cause.hasInterruptsOnly(exit.cause) ? closed : Exit.failCause(failed.failure))
      const { error, pauseMillis } = failed.success
      paused = { error, until: nowMillis() + pauseMillis }
      land(Effect.fail(known.dated(error)))
    })
    return self
  }

  /** The flight that is under way, or a new one, unless one failed a moment ago. */
  const next = (isWanted: boolean): Effect.Effect<AccessToken, ClientError> => {
    if (flight === undefined) {
      const error = pausedFor()
      if (error !== undefined) return Effect.fail(known.dated(error))
      return Deferred.await(depart(isWanted).landed)
    }
    flight.isWanted ||= isWanted
    return Deferred.await(flight.landed)
  }

  const get = Effect.suspend(() => {
    if (lifetime.isEnding()) return closed
    const token = known.good()
    if (token === undefined) {
      return next(false).pipe(
        Effect.catch((error) => {
          // On its way it may have found what is good for less than the margin.
          const token = known.good() ?? known.tooYoung()
          return token === undefined ? Effect.fail(error) : Effect.succeed(token)
        })
      )
    }
    if (known.isDue() && flight === undefined && pausedFor() === undefined) depart(false)
    return Effect.succeed(token)
  })

  const invalidate = Effect.fn("AccessTokens.invalidate")(function* (token: AccessToken) {
    const present = known.token()
    if (present === undefined || Redacted.value(present.value) !== Redacted.value(token.value)) return
    const version = known.reject()
    if (version === undefined) return
    yield* repository
      .invalidate(key, version)
      .pipe(
        Effect.catch((error) =>
          LogEvent.warning(
            { event: "token.unsaved", key },
            `That a token of ${key} was not accepted could not be noted`,
            error.message
          )
        )
      )
  })

  return AccessTokens.of({
    get,
    refresh: Effect.suspend(() => (lifetime.isEnding() ? closed : next(true))),
    invalidate
  })
})

/** Looks after the token of an account while the layer lives. */
export const layer = (options: Options): Layer.Layer<AccessTokens, ClientError, TokenSource | TokenRepository> =>
  Layer.effect(AccessTokens, make(options))

/** A question to the repository. */
const asked = <A>(question: Effect.Effect<A, ClientError>): Effect.Effect<A, Failed> =>
  Effect.mapError(question, (error) => ({ error, pauseMillis: repositoryPauseMillis }))

/** What may be kept of an error: nothing that some other part put into it. */
const failureOf = ({ message, reason }: ClientError, origin: string): Failure => {
  switch (reason._tag) {
    case "TokenRefused":
    case "BadResponse":
    case "RefreshFailed":
      return reason
    default:
      return new RefreshFailed({ origin, problem: message, last: undefined })
  }
}
