/**
 * How often somebody may try to log in.
 *
 * Turns and places end with the layer, and are those of this process. What failed is known to the {@link FailureCounts} in
 * context: those of the process, where n instances behind a load balancer allow n times as many failures, or those that all
 * instances share. Where these cannot be asked nobody can log in, and no password is checked.
 *
 * **Details**
 *
 * Only failures count: 10 in any 5 minutes per user name *and* client address, so that nobody can lock somebody else out,
 * and 100 per client address. An attempt is counted when its turn comes and taken off again when it succeeds, so parallel
 * attempts are no way around the limits; one whose client went away stays counted. At most two attempts are checked at a
 * time, in turn between networks of every size. At most 100 wait, of them 25 of a client address and 10 of a user name there,
 * also with a password that is right. When the room is full, the newest attempt of the network that has the most waiting gives
 * way to one of a network that has fewer, see {@link LoginRoom}: a site with many addresses keeps out nobody else.
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
import * as Schema from "effect/Schema"
import * as FailureCounts from "./FailureCounts.ts"
import * as LoginRoom from "./LoginRoom.ts"

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
  /** The networks that the client is part of, the largest first. Default: none. */
  readonly networks?: ReadonlyArray<string> | undefined
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
    ) => Effect.Effect<Option.Option<B>, E | E2 | LoginsRefused | FailureCounts.FailuresUnavailable, R | R2>
  }
>()("holdfast/server/Logins") {}

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

/** Makes the service over the {@link FailureCounts} in context. */
export const make = Effect.gen(function* () {
  const counts = yield* FailureCounts.FailureCounts
  const room = new LoginRoom.Room({
    atOnce: checkedAtOnce,
    waiting: mostWaiting,
    ofClient: placesPerClient,
    ofUser: placesPerUserAndClient
  })
  const within = LoginRoom.within(room, Effect.fail(tooManyWaiting))

  const counted = <A, E, R>(limits: ReadonlyArray<FailureCounts.Limit>, check: Effect.Effect<Option.Option<A>, E, R>) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(counts.begin(limits), (begun): Effect.Effect<Option.Option<A>, E | LoginsRefused, R> => {
        if (Duration.isDuration(begun)) return Effect.fail(tooManyFailures(begun))
        return Effect.onExit(restore(check), (exit) => {
          // A check that could not be made says nothing about the client that asked for it.
          const failed = Exit.isSuccess(exit) ? Option.isNone(exit.value) : Exit.hasInterrupts(exit)
          return failed ? begun.failed : begun.takeOff
        })
      })
    )

  return Logins.of({
    attempt: (attempt, lookUp, check) =>
      Effect.suspend(() => {
        const { client, networks = [], username } = attempt
        const user = JSON.stringify([client, username])
        const limits = [
          { key: JSON.stringify([client]), most: perClient },
          { key: user, most: perUserAndClient }
        ]
        // Who has no attempt left is told at the door: the queue is for the others.
        return Effect.flatMap(counts.wait(limits), (wait) =>
          wait === undefined
            ? within({
                path: [...networks, client],
                username,
                // A database that does not answer must not hold up the turns of others.
                run: (inTurn) => Effect.flatMap(lookUp, (found) => inTurn(counted(limits, check(found))))
              })
            : Effect.fail(tooManyFailures(wait))
        )
      })
  })
})

/** Over the {@link FailureCounts} in context. */
export const layer: Layer.Layer<Logins, never, FailureCounts.FailureCounts> = Layer.effect(Logins, make)
