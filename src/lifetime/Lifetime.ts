/**
 * A scope whose end everybody can wait for.
 *
 * A lifetime begins when it is made under its parent and is over when everything acquired in its {@link Lifetime.scope}
 * was released, in the reverse order of acquisition. {@link Lifetime.end} may be called from anywhere, any number of
 * times, also by work inside the lifetime; all callers wait for the one end. A parent that ends waits for the end of its
 * children, also for one that is already on its way, and an ended child leaves nothing behind in its parent.
 *
 * **When to use**
 *
 * Wherever a thing can be ended by somebody other than the code that opened it: a session by a logout, a query by a
 * cancel. A bare `Scope` does not do: a second `Scope.close` returns while the first still runs, and a parent's close
 * does not wait for a child whose close has begun.
 *
 * ```
 * parent scope ──┬── lifetime "session" ──┬── lifetime "query" ── connection, fiber
 *                │                        └── lifetime "query" …
 *                └── end(session): queries end first, side by side; then the session is over; then end returns
 * ```
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as LogEvent from "./internal/LogEvent.ts"
import * as Ledger from "./Ledger.ts"

/** A running or ended lifetime. */
export interface Lifetime {
  readonly entry: Ledger.Entry
  /** What is acquired here is released before the end returns. Adding to it after the end releases at once. */
  readonly scope: Scope.Scope
  /**
   * Ends the lifetime once and waits until it is over.
   *
   * **Details**
   *
   * Waiting is interruptible, the end itself is not: a caller inside the lifetime is interrupted like all other work
   * there, and a caller that gives up leaves the end running. A finalizer of this lifetime, or of one that was made under it
   * with {@link child}, does not wait, because the end waits for it. Never fails; a failing finalizer is logged.
   */
  readonly end: (exit?: Exit.Exit<unknown, unknown>) => Effect.Effect<void>
  /** Asks for the end without waiting for it. Cannot be interrupted between the two. */
  readonly begin: (exit?: Exit.Exit<unknown, unknown>) => Effect.Effect<void>
  /** As {@link Lifetime.begin}, for a callback; what is released has these services. With nothing to release it is over at once. */
  readonly beginUnsafe: (exit: Exit.Exit<unknown, unknown>, services: Context.Context<never>) => void
  /** Waits for the end without asking for it. */
  readonly ended: Effect.Effect<void>
  /** True from the moment somebody asked for the end. */
  readonly isEnding: () => boolean
  /** @internal */
  readonly parent: Lifetime | undefined
  /** @internal */
  readonly enter: () => void
  /** @internal */
  readonly leave: (services: Context.Context<never>) => void
}

/** How to describe and close a lifetime. */
export interface Options {
  readonly kind: string
  readonly id: string
  readonly attributes?: Ledger.Options["attributes"]
  /**
   * `"sequential"` (default) releases in the reverse order of acquisition. `"parallel"` is for a lifetime whose children
   * do not need each other, such as the queries of a session.
   */
  readonly release?: "sequential" | "parallel" | undefined
  /** Called once, when somebody first asks for the end, before anything is released. Must not throw. */
  readonly onEnding?: (() => void) | undefined
  /** Called once, when everything is released, before anybody who waits for the end goes on. Must not throw. */
  readonly onEnded?: ((lifetime: Lifetime) => void) | undefined
  /** Ends by itself when the last child made with {@link child} is over. Default: false. */
  readonly endWithLastChild?: boolean | undefined
}

/** It cannot be told at the moment to which lifetime the work belongs, so it was not begun. */
export class OwnerUnknown extends Schema.TaggedError<OwnerUnknown>("holdfast/lifetime/Lifetime/OwnerUnknown")(
  "OwnerUnknown",
  { cause: Schema.Defect() }
) {
  override get message(): string {
    const detail = this.cause instanceof Error ? this.cause.message : String(this.cause)
    return `The owner of this work cannot be found, so it was not begun: ${detail}`
  }
}

/**
 * The lifetime to which the running fiber's work belongs: how a query or a lease finds its session. None for work that
 * belongs to nobody.
 *
 * **Details**
 *
 * An effect, because a request finds out whose it is when somebody asks: what asks nothing loads no session. {@link current}
 * runs it.
 */
export const Current = Context.Reference<Effect.Effect<Lifetime | undefined, OwnerUnknown>>(
  "holdfast/lifetime/Lifetime/Current",
  { defaultValue: () => Effect.undefined }
)

/** Finds the lifetime that the running fiber's work belongs to. Fails where that cannot be told, and nowhere else. */
export const current: Effect.Effect<Lifetime | undefined, OwnerUnknown> = Effect.flatten(Current)

/** The lifetime that the running fiber is closing. */
const Closing = Context.Reference<Lifetime | undefined>("holdfast/lifetime/Lifetime/Closing", {
  defaultValue: () => undefined
})

const isWithin = (inner: Lifetime | undefined, outer: Lifetime): boolean =>
  inner !== undefined && (inner === outer || isWithin(inner.parent, outer))

/** Makes a lifetime under the scope of its parent. */
export const make = (parent: Scope.Scope, options: Options): Effect.Effect<Lifetime> =>
  makeUnder(parent, options, undefined)

const makeUnder = (parent: Scope.Scope, options: Options, holder: Lifetime | undefined): Effect.Effect<Lifetime> =>
  Effect.withFiber((fiber) => {
    const lifetime = underUnsafe(parent, options, fiber, holder)
    return lifetime.link.state._tag === "Closed"
      ? Effect.uninterruptible(Effect.as(lifetime.end(lifetime.link.state.exit), lifetime))
      : Effect.succeed(lifetime)
  })

const underUnsafe = (
  parent: Scope.Scope,
  options: Options,
  fiber: Fiber.Fiber<unknown, unknown>,
  holder: Lifetime | undefined
) => {
  holder?.enter()
  const ledger = fiber.getRef(Ledger.Ledger)
  const entry = ledger.open(options, fiber, holder?.entry)
  return new LifetimeImpl(ledger, entry, options, parent, holder)
}

/** As {@link make}, in one step of the fiber that is given. Under a parent that is closed it is ending. */
export const makeUnsafe = (parent: Scope.Scope, options: Options, fiber: Fiber.Fiber<unknown, unknown>): Lifetime => {
  const lifetime = underUnsafe(parent, options, fiber, undefined)
  if (lifetime.link.state._tag === "Closed") lifetime.beginUnsafe(lifetime.link.state.exit, fiber.context)
  return lifetime
}

type Finalizer = (exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void>

/** A scope that closes with its parent and has a finalizer from the beginning; closed where the parent is. */
const forkWithUnsafe = (parent: Scope.Scope, finalizer: Finalizer): Scope.Closeable => {
  const child = Scope.forkUnsafe(parent)
  if (child.state._tag === "Empty") {
    child.state = { _tag: "Open", finalizerKey: child, finalizer, finalizers: undefined }
  }
  return child
}

/** A program holds tens of thousands: what it can do is made when it is asked for, so that it costs what it knows. */
class LifetimeImpl implements Lifetime {
  readonly ledger: Ledger.Ledger
  readonly entry: Ledger.Entry
  readonly onEnding: Options["onEnding"]
  readonly onEnded: Options["onEnded"]
  readonly endsWithLastChild: boolean
  readonly link: Scope.Closeable
  readonly parent: Lifetime | undefined
  readonly scope: Scope.Closeable
  readonly over = Deferred.makeUnsafe<void>()
  childCount = 0
  ending = false

  constructor(
    ledger: Ledger.Ledger,
    entry: Ledger.Entry,
    options: Options,
    under: Scope.Scope,
    parent: Lifetime | undefined
  ) {
    this.ledger = ledger
    this.entry = entry
    this.onEnding = options.onEnding
    this.onEnded = options.onEnded
    this.endsWithLastChild = options.endWithLastChild === true
    this.link = forkWithUnsafe(under, (exit) => this.end(exit))
    this.parent = parent
    this.scope = Scope.makeUnsafe(options.release ?? "sequential")
  }

  get begin() {
    return (exit: Exit.Exit<unknown, unknown> = Exit.void): Effect.Effect<void> =>
      Effect.withFiber(({ context }) => {
        this.beginUnsafe(exit, context)
        return Effect.void
      })
  }

  get end() {
    return (exit?: Exit.Exit<unknown, unknown>): Effect.Effect<void> =>
      Effect.andThen(
        this.begin(exit),
        Effect.withFiber((fiber) => (isWithin(fiber.getRef(Closing), this) ? Effect.void : this.ended))
      )
  }

  get ended(): Effect.Effect<void> {
    return Deferred.await(this.over)
  }

  get isEnding() {
    return () => this.ending
  }

  enter(): void {
    this.childCount++
  }

  // Asked and begun in one step: a child that comes in between would find a lifetime that is about to end.
  leave(services: Context.Context<never>): void {
    this.childCount--
    if (this.childCount === 0 && this.endsWithLastChild) this.beginUnsafe(Exit.void, services)
  }

  // A fiber of its own closes, which is nobody's child: the caller may be one of those who are interrupted by the close, and
  // must be able to let go, and a child of a closing scope would wait for itself.
  beginUnsafe(exit: Exit.Exit<unknown, unknown>, services: Context.Context<never>): void {
    if (this.ending) return
    this.ending = true
    this.ledger.note(this.entry, "ending")
    this.onEnding?.()
    const release = Scope.closeUnsafe(this.scope, exit)
    if (release === undefined) return this.released(Exit.void, services)
    Effect.runForkWith(Context.add(services, Closing, this))(
      Effect.flatMap(Effect.exit(release), (closed) => Effect.sync(() => this.released(closed, services))),
      { uninterruptible: true }
    )
  }

  private released(closed: Exit.Exit<unknown, unknown>, services: Context.Context<never>): void {
    this.parent?.leave(services)
    this.ledger.strike(this.entry, closed)
    this.onEnded?.(this)
    Deferred.doneUnsafe(this.over, Exit.void)
    if (Exit.isFailure(closed)) {
      const { id, kind } = this.entry
      Effect.runForkWith(services)(
        LogEvent.warning(
          { event: "release.failed", kind, id },
          `Ending ${kind} ${id} met a failure`,
          Cause.pretty(closed.cause)
        )
      )
    }
    // Its finalizer would wait for the end, which is over.
    void Scope.closeUnsafe(this.link, Exit.void)
  }
}

/** Makes a lifetime under another one, whose last child it may be. */
export const child = (parent: Lifetime, options: Options): Effect.Effect<Lifetime> =>
  makeUnder(parent.scope, options, parent)

/** How a lifetime is held, and what describes the hold in the ledger. */
export interface Holding extends Pick<Options, "kind" | "id"> {
  /**
   * Run when the lifetime ends while it is held: the end waits for it. `released` is done when the holder has let go. Must not
   * fail.
   */
  readonly onEnd?: ((released: Effect.Effect<void>) => Effect.Effect<void>) | undefined
}

/**
 * Holds a lifetime until the current scope closes, and stands under it in the ledger: a lifetime that ends with its last child
 * does not end before.
 *
 * **Details**
 *
 * A hold is a child that nobody ends by itself, and costs a third of one.
 */
export const hold = (lifetime: Lifetime, holding: Holding): Effect.Effect<void, never, Scope.Scope> =>
  Effect.uninterruptible(Effect.withFiber((fiber) => holdUnsafe(lifetime, holding, fiber)))

/**
 * As {@link hold}, in one step of the fiber that is given. What is returned ties the hold to the current scope: run it next, where
 * nothing interrupts.
 */
export const holdUnsafe = (
  lifetime: Lifetime,
  holding: Holding,
  fiber: Fiber.Fiber<unknown, unknown>
): Effect.Effect<void, never, Scope.Scope> => {
  const ledger = fiber.getRef(Ledger.Ledger)
  const { onEnd } = holding
  lifetime.enter()
  const entry = ledger.open(holding, fiber, lifetime.entry)
  const released = Deferred.makeUnsafe<void>()
  const over = Effect.withFiber(({ context }) => {
    ledger.strike(entry, Exit.void)
    lifetime.leave(context)
    return Effect.void
  })
  const end = () =>
    onEnd === undefined || Deferred.isDoneUnsafe(released)
      ? over
      : Effect.ensuring(onEnd(Deferred.await(released)), over)
  const held = forkWithUnsafe(lifetime.scope, end)
  if (held.state._tag === "Closed") return over
  return Scope.addFinalizerExit(Context.getUnsafe(fiber.context, Scope.Scope), (exit) => {
    Deferred.doneUnsafe(released, Exit.void)
    return Scope.close(held, exit)
  })
}

/** A lifetime that ends with the current scope. */
export const scoped = (options: Options): Effect.Effect<Lifetime, never, Scope.Scope> =>
  Effect.flatMap(Effect.scope, (scope) => make(scope, options))

/**
 * Lets an effect belong to a lifetime: what it acquires is released at its end and stands under it in the ledger.
 *
 * **Gotchas**
 *
 * The effect itself is not interrupted by the end; fork it with {@link fork} for that.
 */
export const within =
  (lifetime: Lifetime) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, Exclude<R, Scope.Scope>> =>
    Effect.updateContext(
      effect,
      (context: Context.Context<Exclude<R, Scope.Scope>>) => contextOf(lifetime, context) as Context.Context<R>
    )

// One by one: a context that is merged is copied, and known to no fiber.
const contextOf = <R>(lifetime: Lifetime, services: Context.Context<R>): Context.Context<R | Scope.Scope> =>
  services.pipe(
    Context.add(Scope.Scope, lifetime.scope),
    Context.add(Current, Effect.succeed(lifetime)),
    Context.add(Ledger.Parent, lifetime.entry)
  )

/** Forks an effect that belongs to a lifetime and cannot outlive it. After the end, the fiber is interrupted unrun. */
export const fork =
  (lifetime: Lifetime) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.forkIn(within(lifetime)(effect), lifetime.scope)

/** As {@link fork}, for a callback: the effect begins in a turn of its own, with these services. */
export const forkUnsafe =
  <R>(lifetime: Lifetime, services: Context.Context<R>) =>
  <A, E>(effect: Effect.Effect<A, E, R | Scope.Scope>): Fiber.Fiber<A, E> =>
    Fiber.runIn(
      Effect.runForkWith(contextOf(lifetime, services))(Effect.andThen(Effect.yieldNow, effect)),
      lifetime.scope
    )
