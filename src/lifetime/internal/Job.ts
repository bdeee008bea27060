/**
 * A piece of work in a fiber of its own, which has an outcome whatever ends it.
 *
 * A job lives from {@link start} until its lifetime is over: then its fiber has ended, what it held is released, its place is
 * given back, and only then is its outcome known to anybody. It ends when it is done, when its scope closes, when its owner's
 * lifetime ends, or at its deadline, whichever comes first.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type * as Deadlines from "../Deadlines.ts"
import type * as FairSemaphore from "../FairSemaphore.ts"
import type * as Ledger from "../Ledger.ts"
import * as Lifetime from "../Lifetime.ts"

/** The states that a job comes to on its way. */
export type Step = "Starting" | "Running" | "Canceling"

/** Who ended a job that has no outcome of its own: its deadline, the end of its owner, or somebody who asked. */
export type EndedBy = "deadline" | "owner" | "request"

/** What to run, and how. */
export interface Options<A, E, R> {
  readonly kind: string
  readonly id: string
  /** What the ledger tells about it, besides its id and since when it is held. */
  readonly attributes?: Ledger.Options["attributes"]
  /** Ends the job when it ends. */
  readonly owner: Lifetime.Lifetime | undefined
  /** From now until the outcome, waiting included. Default: none. */
  readonly deadline?: Duration.Duration | undefined
  /** What watches that deadline, where many have the same. Default: a fiber of its own. */
  readonly deadlines?: Deadlines.Deadlines | undefined
  /** To be granted before the work begins, and left when everything is released, whatever happens. */
  readonly place?: FairSemaphore.Place<E> | undefined
  /**
   * The work. It tells the states that it comes to, and calls `done` when the outcome stands, also against an interruption or
   * a deadline that came first.
   */
  readonly work: (told: (step: Step) => void, done: (outcome: Exit.Exit<A, E>) => void) => Effect.Effect<A, E, R>
  /** The outcome of a job that was ended before it had one. */
  readonly unfinished: (by: EndedBy) => Exit.Exit<A, E>
  /** The outcome of work that was interrupted although nobody ended the job. */
  readonly takenAway: Exit.Exit<A, E>
  /** Told of every state but the terminal one. */
  readonly onState?: ((step: Step) => void) | undefined
  /** Run after the work, before the outcome is told: to tidy up. Not run when nothing was started. */
  readonly onReleased?: ((outcome: Exit.Exit<A, E>) => Effect.Effect<void>) | undefined
  /** Told of the outcome once, after everything was released. Must not throw. */
  readonly onOutcome: (outcome: Exit.Exit<A, E>) => void
}

/**
 * Starts a job for the current scope and returns its lifetime; the caller ties `lifetime.end` to whatever else should end it. A
 * job that waits for its place costs no fiber.
 */
export const start = <A, E, R>(
  options: Options<A, E, R>,
  services: Context.Context<R>
): Effect.Effect<Lifetime.Lifetime, never, Scope.Scope> =>
  Effect.withFiber((fiber) => begin(options, services, Context.getOrUndefined(fiber.context, Tracer.ParentSpan)))

/** `parent` is the span of who submitted the job, where that is traced: the job goes on when its span is over. */
const begin = <A, E, R>(
  options: Options<A, E, R>,
  services: Context.Context<R>,
  parent: Tracer.AnySpan | undefined
): Effect.Effect<Lifetime.Lifetime, never, Scope.Scope> => {
  const { deadline, deadlines, id, kind, onState, owner, place } = options
  let exit: Exit.Exit<A, E> | undefined
  let forget: (() => void) | undefined
  let isLate = false
  let endedBy: EndedBy = "request"
  const outcome = () => exit ?? options.unfinished(endedBy)
  const described: Lifetime.Options = {
    kind,
    id,
    attributes: options.attributes,
    // Asked now: an owner that ends with its last job is ending by the time that this one is over.
    onEnding: () => {
      endedBy = isLate ? "deadline" : owner?.isEnding() === true ? "owner" : "request"
      if (exit === undefined && !isLate) onState?.("Canceling")
    },
    onEnded: () => {
      forget?.()
      place?.leave()
      options.onOutcome(outcome())
    }
  }
  const done = (outcome: Exit.Exit<A, E>) => {
    exit = outcome
  }
  const run = (lifetime: Lifetime.Lifetime) => (news: Effect.Effect<void, E>) => {
    const told = (step: Step) => {
      const isCanceling = exit === undefined && !isLate && lifetime.isEnding()
      if (!isCanceling) onState?.(step)
    }
    const work = Effect.andThen(
      news,
      Effect.suspend(() => options.work(told, done))
    ).pipe(
      (work) =>
        parent === undefined
          ? work
          : Effect.withSpan(work, kind, {
              parent,
              attributes: { [`holdfast.${kind}.id`]: id },
              captureStackTrace: false
            }),
      Effect.onExit((result) => {
        // An interruption that nobody asked for is a failure of what the work runs on, not a cancel.
        const interrupted = Exit.isFailure(result) && Cause.hasInterruptsOnly(result.cause)
        exit ??= interrupted ? (lifetime.isEnding() ? undefined : options.takenAway) : result
        return options.onReleased?.(outcome()) ?? Effect.void
      })
    )
    Lifetime.forkUnsafe(lifetime, services)(work).addObserver((exit) => lifetime.beginUnsafe(exit, services))
  }
  const late = (lifetime: Lifetime.Lifetime) => {
    isLate = exit === undefined
    lifetime.beginUnsafe(Exit.void, services)
  }
  const watch = (lifetime: Lifetime.Lifetime, deadline: Duration.Duration) =>
    deadlines === undefined
      ? Lifetime.fork(lifetime)(
          Effect.andThen(
            Effect.sleep(deadline),
            Effect.sync(() => late(lifetime))
          )
        )
      : Effect.sync(() => {
          if (!lifetime.isEnding()) forget = deadlines.add(() => late(lifetime))
        })
  return Effect.uninterruptible(
    Effect.tap(owner === undefined ? Lifetime.scoped(described) : Lifetime.child(owner, described), (lifetime) => {
      if (place === undefined) run(lifetime)(Effect.void)
      else place.told(run(lifetime))
      return deadline === undefined ? Effect.void : watch(lifetime, deadline)
    })
  )
}
