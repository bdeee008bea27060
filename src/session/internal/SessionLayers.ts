/**
 * Work and layers that end with a session.
 *
 * {@link run} forks work; {@link provide} builds a layer once per session in this process.
 *
 * What a layer holds is acquired when the first work of the session asks for it, and released when the session ends.
 * The layer holds the session here until then, as a running fiber would. Work that uses it is interrupted before it is
 * released:
 *
 * ```
 * session ── layer ──┬── what it acquired          released last
 *                    └── users ──┬── use (a fiber)  interrupted first, side by side
 *                                └── use …
 * ```
 *
 * **Gotchas**
 *
 * A layer is known by reference, so build it outside of the request. It is built in the context of the first fiber that asks, and
 * must take nothing from there that ends with a request.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Lifetime from "../../lifetime/Lifetime.ts"
import { SessionError, SessionRevoked } from "../SessionError.ts"

interface Built {
  readonly context: Context.Context<never>
  readonly users: Lifetime.Lifetime
}

type Shared = Deferred.Deferred<Fiber.Fiber<Built, unknown>>

/** By session; a session that is over takes its map along. */
const known = new WeakMap<Lifetime.Lifetime, Map<Layer.Any, Shared>>()

const start = (session: Lifetime.Lifetime, layer: Layer.Layer<never, unknown>, forget: () => void) =>
  Effect.gen(function* () {
    const { id } = session.entry
    const owner = yield* Lifetime.child(session, { kind: "layer", id })
    const build = Effect.gen(function* () {
      const context = yield* Layer.buildWithMemoMap(layer, Layer.makeMemoMapUnsafe(), owner.scope)
      return { context, users: yield* Lifetime.child(owner, { kind: "layer users", id, release: "parallel" }) }
    })
    const failed = Effect.suspend(() => {
      forget()
      return owner.begin()
    })
    return yield* Lifetime.fork(owner)(Effect.onError(build, () => failed))
  })

/** The build of a layer in a session; who comes first begins it. */
const built = (session: Lifetime.Lifetime, layer: Layer.Layer<never, unknown>) =>
  Effect.uninterruptible(
    Effect.suspend(() => {
      const layers = known.get(session) ?? new Map<Layer.Any, Shared>()
      known.set(session, layers)
      const shared = layers.get(layer)
      if (shared !== undefined) return Deferred.await(shared)
      // Known at once: somebody else may ask before the build has begun.
      const mine: Shared = Deferred.makeUnsafe()
      layers.set(layer, mine)
      return Effect.tap(
        start(session, layer, () => layers.delete(layer)),
        (fiber) => Deferred.succeed(mine, fiber)
      )
    })
  )

const over = Effect.fail(new SessionError({ reason: new SessionRevoked() }))

/** Waits for work of the session; an interruption by the session's end is `SessionRevoked`. */
const join = <A, E>(session: Lifetime.Lifetime, fiber: Fiber.Fiber<A, E>): Effect.Effect<A, E | SessionError> =>
  Effect.flatMap(Fiber.await(fiber), (exit): Effect.Effect<A, E | SessionError> =>
    Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) && session.isEnding() ? over : exit
  )

/** Runs work with a layer of the session's; fails with `SessionRevoked` when the session ends before the work does. */
export const provide =
  <ROut, E2, RIn>(session: Lifetime.Lifetime, layer: Layer.Layer<ROut, E2, RIn>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | E2 | SessionError, Exclude<R, ROut> | RIn> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const caller = yield* Effect.context<never>()
        const fiber = yield* built(
          session,
          layer as Layer.Layer<never, unknown, unknown> as Layer.Layer<never, unknown>
        )
        const { context, users } = yield* restore(join(session, fiber))
        const use = yield* Lifetime.child(users, { kind: "layer use", id: session.entry.id })
        // The work is the caller's, with its scope and services; only its fiber belongs to the session.
        const work = Effect.provideContext(effect as Effect.Effect<A, E>, Context.merge(caller, context))
        const running = yield* Lifetime.fork(use)(work)
        return yield* Effect.ensuring(restore(join(session, running)), use.end())
      })
    ) as Effect.Effect<A, E | E2 | SessionError, Exclude<R, ROut> | RIn>

/** Forks work that cannot outlive the session. */
export const run = <A, E, R>(session: Lifetime.Lifetime, effect: Effect.Effect<A, E, R>) =>
  Effect.uninterruptible(
    Effect.gen(function* () {
      const child = yield* Lifetime.child(session, { kind: "fiber", id: session.entry.id })
      const work = Effect.onExit(Effect.interruptible(effect), (exit) => Effect.forkDetach(child.end(exit)))
      // A fiber that may be interrupted before it begins would end without a word, and the session be held for good.
      return yield* Effect.forkIn(Lifetime.within(child)(work), child.scope, { uninterruptible: true })
    })
  )
