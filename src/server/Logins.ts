/**
 * How often somebody may try to log in.
 *
 * The counts live in the memory of this process and end with the layer: behind a load balancer every instance counts for
 * itself, so that n instances allow n times as many attempts.
 *
 * **Details**
 *
 * Only failures count: 10 in any 5 minutes per user name *and* client address, so that nobody can lock somebody else out,
 * and 100 per client address. An attempt is counted when its turn comes and taken off again when it succeeds, so parallel
 * attempts are no way around the limits; one whose client went away stays counted. At most two attempts are checked at a
 * time, in turn between clients. At most 100 wait, of them 25 of a client address and 10 of a user name there, so that
 * nobody fills the room alone, also with a password that is right.
 *
 * The limits are those of OWASP's Authentication sheet, "Protect Against Automated Attacks", in its spirit: low enough to
 * make guessing hopeless, and no lock on the account itself.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
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
/** What one may have of the room, the attempts that are being checked included. */
const placesPerClient = 25
const placesPerUserAndClient = 10
/** About what a hundred waiting logins take, two at a time and a quarter of a second each. */
const queueSeconds = 10

const tooManyWaiting = new LoginsRefused({ because: "waiting", retryAfterSeconds: queueSeconds })

const tooManyFailures = (retryAfter: Duration.Duration) =>
  new LoginsRefused({ because: "failures", retryAfterSeconds: Math.max(1, Math.ceil(Duration.toSeconds(retryAfter))) })

/** A room that nobody waits to get into, and its share of it that each key may have. */
const roomOf = (share: number) =>
  FairSemaphore.make<LoginsRefused>(checkedAtOnce + mostWaiting, {
    maxWaiting: 0,
    perKey: { permits: share, maxWaiting: 0 },
    refuse: () => Effect.fail(tooManyWaiting)
  })

/** Makes the service; the limits are those of this process. */
export const make = Effect.gen(function* () {
  const clock = yield* Clock.Clock
  // Not the time of day: nobody sets this one back.
  const counts = FailureCounts.make(window, () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6)
  const places = yield* roomOf(placesPerClient)
  const placesOfUsers = yield* roomOf(placesPerUserAndClient)
  const turns = yield* FairSemaphore.make(checkedAtOnce)

  const counted = <A, E, R>(limits: ReadonlyArray<FailureCounts.Limit>, check: Effect.Effect<Option.Option<A>, E, R>) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.suspend((): Effect.Effect<Option.Option<A>, E | LoginsRefused, R> => {
        const begun = counts.begin(limits)
        if (Duration.isDuration(begun)) return Effect.fail(tooManyFailures(begun))
        return Effect.onExit(restore(check), (exit) =>
          Effect.sync(() => {
            // A check that could not be made says nothing about whoever asked for it.
            const failed = Exit.isSuccess(exit) ? Option.isNone(exit.value) : Exit.hasInterrupts(exit)
            if (failed) begun.failed()
            else begun.takeOff()
          })
        )
      })
    )

  return Logins.of({
    attempt: (attempt, lookUp, check) =>
      Effect.suspend(() => {
        const { client, username } = attempt
        const user = JSON.stringify([client, username])
        const limits = [
          { key: JSON.stringify([client]), most: perClient },
          { key: user, most: perUserAndClient }
        ]
        // Who has no attempt left is told at the door: the queue is for the others.
        const wait = counts.wait(limits)
        if (wait !== undefined) return Effect.fail(tooManyFailures(wait))
        // A database that does not answer must not hold up the turns of others.
        const inTurn = Effect.flatMap(lookUp, (found) => turns.withPermit(client)(counted(limits, check(found))))
        return places.withPermit(client)(placesOfUsers.withPermit(user)(inTurn))
      })
  })
})

/** The limits of this process. */
export const layer: Layer.Layer<Logins> = Layer.effect(Logins, make)
