/**
 * How often somebody may try to log in.
 *
 * The counts live in the memory of this process and end with the layer: behind a load balancer every instance counts for
 * itself, so that n instances allow n times as many attempts.
 *
 * **Details**
 *
 * Only failures count: 10 in 5 minutes per user name *and* client address, so that nobody can lock somebody else out, and
 * 100 per client address. An attempt is counted when its turn comes and taken off again when it succeeds, so parallel
 * attempts are no way around the limits; one whose client went away stays counted. At most two attempts are checked at a
 * time, in turn between clients, and at most 100 wait.
 *
 * The limits are those of OWASP's Authentication sheet, "Protect Against Automated Attacks", in its spirit: low enough to
 * make guessing hopeless, and no lock on the account itself.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as FairSemaphore from "../FairSemaphore.ts"
import * as FailureCounts from "./FailureCounts.ts"

/** Too many attempts failed, or are waiting. */
export class LoginsRefused extends Schema.TaggedError<LoginsRefused>("holdfast/server/LoginsRefused")("LoginsRefused", {
  because: Schema.Literals(["failures", "waiting"]),
  /** Whole seconds, at least one. */
  retryAfterSeconds: Schema.Int
}) {
  override get message(): string {
    const why = this.because === "failures" ? "Too many logins failed." : "Too many logins are waiting."
    return `${why} Try again in ${this.retryAfterSeconds} s.`
  }
}

/** Who tries. */
export interface Attempt {
  readonly username: string
  /** What counts as one client. */
  readonly client: string
}

export class Logins extends Context.Service<
  Logins,
  {
    /**
     * Looks up what a check of credentials needs, at once, and runs the check when its turn comes and if it may. It answers
     * `None` for wrong ones.
     */
    readonly attempt: <A, B, E, R, E2, R2>(
      attempt: Attempt,
      lookUp: Effect.Effect<A, E, R>,
      check: (found: A) => Effect.Effect<Option.Option<B>, E2, R2>
    ) => Effect.Effect<Option.Option<B>, E | E2 | LoginsRefused, R | R2>
  }
>()("holdfast/server/Logins") {}

const window = Duration.minutes(5)
const perUserAndClient = 10
const perClient = 100
const checkedAtOnce = 2
const mostWaiting = 100
/** About what a hundred waiting logins take, two at a time and a quarter of a second each. */
const queueSeconds = 10

const tooManyWaiting = new LoginsRefused({ because: "waiting", retryAfterSeconds: queueSeconds })

const refused = (error: RateLimiter.RateLimiterError) =>
  error.reason._tag === "RateLimitExceeded" ? Effect.fail(tooManyFailures(error.reason.retryAfter)) : Effect.die(error)

const tooManyFailures = (retryAfter: Duration.Duration) =>
  new LoginsRefused({ because: "failures", retryAfterSeconds: Math.max(1, Math.ceil(Duration.toSeconds(retryAfter))) })

/** Makes the service over the `RateLimiter` in context. */
export const make = Effect.gen(function* () {
  const limiter = yield* RateLimiter.RateLimiter
  const room = yield* Semaphore.make(checkedAtOnce + mostWaiting)
  const turns = yield* FairSemaphore.make(checkedAtOnce)

  const limitsOf = ({ client, username }: Attempt) => [
    { key: `login:${JSON.stringify([client])}`, limit: perClient, window },
    { key: `login:${JSON.stringify([client, username])}`, limit: perUserAndClient, window }
  ]
  type Limit = ReturnType<typeof limitsOf>[number]

  const count = (limit: Limit, tokens: number) => limiter.consume({ ...limit, tokens }).pipe(Effect.catch(refused))

  /** Who has no attempt left is told at the door: the queue is for the others. */
  const look = (limit: Limit) =>
    Effect.flatMap(count(limit, 0), ({ remaining, resetAfter }) =>
      remaining > 0 ? Effect.void : Effect.fail(tooManyFailures(resetAfter))
    )

  /** Counts an attempt in all limits or in none; the effect within takes it off again. */
  const spend = ([first, ...rest]: ReadonlyArray<Limit>): Effect.Effect<Effect.Effect<void>, LoginsRefused> => {
    if (first === undefined) return Effect.succeed(Effect.void)
    const takeOff = Effect.ignore(count(first, -1))
    return Effect.flatMap(count(first, 1), () =>
      Effect.map(
        Effect.tapError(spend(rest), () => takeOff),
        (others) => Effect.andThen(others, takeOff)
      )
    )
  }

  const counted = <A, E, R>(limits: ReadonlyArray<Limit>, check: Effect.Effect<Option.Option<A>, E, R>) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(spend(limits), (takeOff) =>
        Effect.onExit(restore(check), (exit) =>
          // A check that could not be made says nothing about whoever asked for it.
          (Exit.isSuccess(exit) ? Option.isNone(exit.value) : Exit.hasInterrupts(exit)) ? Effect.void : takeOff
        )
      )
    )

  return Logins.of({
    attempt: (attempt, lookUp, check) =>
      Effect.suspend(() => {
        const limits = limitsOf(attempt)
        // A database that does not answer must not hold up the turns of others.
        const inTurn = Effect.flatMap(lookUp, (found) =>
          turns.withPermit(attempt.client)(counted(limits, check(found)))
        )
        return Effect.forEach(limits, look, { discard: true }).pipe(
          Effect.andThen(room.withPermitsIfAvailable(1)(inTurn)),
          Effect.flatMap(
            Option.match({ onNone: () => Effect.fail(tooManyWaiting), onSome: (checked) => Effect.succeed(checked) })
          )
        )
      })
  })
})

/** The limits of this process. */
export const layer: Layer.Layer<Logins> = Layer.effect(Logins, make).pipe(
  Layer.provide(RateLimiter.layer),
  Layer.provide(FailureCounts.layer)
)
