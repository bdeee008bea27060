/**
 * A server of connections that a simulated pool uses: what goes wrong there, and what a source may claim of its pool.
 *
 * Times are milliseconds that nobody sets. An instant is one of them: all that can go on without waiting goes on within it.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import { ConnectionError, NoRoom, Unavailable } from "../../connection/ConnectionError.ts"
import { ConnectionSource, type OpenConnection, Role, type State } from "../../connection/ConnectionSource.ts"
import type { Limits } from "./SimulatedPoolPlan.ts"
import type { World } from "./SimulatedScenario.ts"

/** The pool's limits in milliseconds that no seed changes. */
export const acquireTimeout = 2000
export const resetTimeout = 500
export const checkAfterIdle = 300
export const idleTimeout = 5000
export const closeTimeout = 1000
export const maxWaiting = 4

/** How long an `open` takes, at most, and how long one that hangs. */
const openMillis = 20
const hangMillis = 6000

/** One connection, as the server has it. */
export interface Backend {
  readonly id: string
  readonly role: string | undefined
  /** When its opening began. */
  readonly began: number
  /** Since when it is gone on both sides, or only on ours. */
  deadSince: number | undefined
  retiredSince: number | undefined
  isSilent: boolean
  /** It was asked something and has not answered. */
  isUnanswered: boolean
  isLent: boolean
  /** A borrower had it, and it was not reset since. */
  isUsed: boolean
  isClosed: boolean
  /** Somebody has ended it by force. */
  isExpelled: boolean
  heardAt: number
  uses: number
  /** Done when its borrower's statements fail. */
  readonly gone: Deferred.Deferred<void>
  /** Done when the server has it no more. */
  readonly rid: Deferred.Deferred<void>
}

/** What a pool without borrowers' SQL lends. */
const services = Context.empty()
const noClient: Effect.Effect<SqlClient.SqlClient> = Effect.die(new Error("A simulated connection runs no SQL"))

export class Server {
  readonly world: World
  readonly limits: Limits
  /** What it has of the pool, also what the pool has given up. */
  readonly backends = new Map<string, Backend>()
  room = Infinity
  /** What happens to the next `open` and the next `reset`. */
  readonly opens: Array<"fails" | "hangs"> = []
  readonly resets: Array<"fails" | "hangs"> = []
  /** When something last went wrong, and how much still does. */
  troubledAt = -Infinity
  troubles = 0
  failures = 0
  /** How many are open or being opened or closed, for the pool. */
  slots = 0
  /** Since when the pool is suspended, by everybody who has it suspended. */
  readonly suspensions = new Set<{ readonly since: number }>()
  evictedAt = -Infinity
  closingSince: number | undefined
  #opened = 0

  constructor(world: World, limits: Limits) {
    this.world = world
    this.limits = limits
  }

  get now(): number {
    return this.world.process.elapsed
  }

  /** A fault has happened; what of it lasts for a while keeps borrowers waiting for so long. */
  trouble(lasts = 0): void {
    this.troubledAt = Math.max(this.troubledAt, this.now + lasts)
  }

  /** Whether anything was wrong within so many milliseconds. */
  isTroubledFor(millis: number): boolean {
    const isSilent = this.open().some((backend) => backend.isSilent)
    return this.troubles > 0 || isSilent || this.suspensions.size > 0 || this.now - this.troubledAt <= millis
  }

  /** Whether it was suspended before this instant. */
  isSuspended(): boolean {
    return Array.from(this.suspensions).some(({ since }) => since < this.now)
  }

  /** Those that the pool may lend, the oldest first. */
  open(): ReadonlyArray<Backend> {
    return Array.from(this.backends.values()).filter(({ isClosed }) => !isClosed)
  }

  /** One of them is lost on both sides. */
  dies(backend: Backend): void {
    this.trouble()
    backend.deadSince ??= this.now
    Deferred.doneUnsafe(backend.gone, Effect.void)
  }

  readonly #fails = Effect.suspend(() => {
    this.failures++
    this.trouble()
    return Effect.fail(new ConnectionError({ reason: new Unavailable({ source: "simulated", cause: "as asked" }) }))
  })

  /** It lasts until it is over, also where it is interrupted. */
  #lasting<A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.acquireUseRelease(
      Effect.sync(() => void this.troubles++),
      () => effect,
      () =>
        Effect.sync(() => {
          this.troubles--
          this.trouble()
        })
    )
  }

  /** What the server answers on a connection, in a turn. */
  #answer(backend: Backend): Effect.Effect<void, ConnectionError> {
    return Effect.gen({ self: this }, function* () {
      backend.isUnanswered = true
      yield* Effect.yieldNow
      if (backend.isSilent) return yield* this.#lasting(Effect.never)
      backend.isUnanswered = false
      if (backend.deadSince !== undefined) return yield* this.#fails
      backend.heardAt = this.now
    })
  }

  #checkLend(backend: Backend): void {
    const { broke } = this.world
    const { now } = this
    const told = `connection ${backend.id}`
    // What it was when the instant began: what happens within it may be seen too late.
    const wasSo = (since: number | undefined) => since !== undefined && since < now
    if (backend.isLent) broke("C9 two borrowers never share a connection", told)
    if (backend.isUsed) broke("C3 a connection is reset before it is lent again", told)
    if (backend.isClosed) broke("C1 what is closed is lent to nobody", told)
    if (wasSo(backend.deadSince)) broke("C10 what is known to be dead is lent to nobody", told)
    if (wasSo(backend.retiredSince)) broke("C10 what is retired is lent to nobody", told)
    if (now - backend.heardAt > checkAfterIdle)
      broke("C10 what was not heard from is asked before it is lent", `${told}, ${now - backend.heardAt} ms`)
    if (backend.uses > (this.limits.maxUses ?? Infinity))
      broke("a connection is lent `maxUses` times", `${told}: ${backend.uses}`)
    if (now - backend.began > this.limits.maxLifetime + openMillis + 1)
      broke("a connection that is too old is lent to nobody", `${told}, ${now - backend.began} ms`)
    if (backend.began < this.evictedAt && this.evictedAt < now) broke("what was evicted is lent to nobody", told)
    if (this.isSuspended()) broke("a pool that is suspended lends nothing", told)
    if (wasSo(this.closingSince)) broke("a pool that closes lends nothing", told)
  }

  #connectionOf(backend: Backend): OpenConnection {
    const { world } = this
    return {
      id: backend.id,
      lend: () =>
        Effect.acquireRelease(
          Effect.sync(() => {
            backend.uses++
            this.#checkLend(backend)
            backend.isLent = true
            backend.isUsed = true
            return { sql: noClient, services }
          }),
          // The server confirms that nothing runs any more.
          () =>
            Effect.andThen(
              Effect.yieldNow,
              Effect.sync(() => {
                backend.isLent = false
              })
            )
        ),
      check: Effect.suspend(() => {
        if (backend.isLent) world.broke("C9 what is lent is its borrower's alone", `connection ${backend.id} was asked`)
        return this.#answer(backend)
      }),
      reset: Effect.suspend(() => {
        if (backend.isLent)
          world.broke("C2 a borrower has let go before its connection is reset", `connection ${backend.id}`)
        const fault = this.resets.shift()
        if (fault === "fails") {
          backend.isUnanswered = true
          return this.#fails
        }
        if (fault === "hangs") backend.isSilent = true
        return Effect.andThen(
          this.#answer(backend),
          Effect.sync(() => {
            backend.isUsed = false
          })
        )
      }),
      state: (): State =>
        backend.deadSince !== undefined || backend.isExpelled
          ? "dead"
          : backend.retiredSince === undefined
            ? "usable"
            : "retired",
      heardAt: () => backend.heardAt,
      // Watches for so long whether it is gone by itself, or by somebody else's doing.
      expel: (grace) =>
        Effect.raceFirst(Effect.sleep(grace), Deferred.await(backend.rid)).pipe(
          Effect.andThen(Effect.yieldNow),
          Effect.andThen(
            Effect.sync(() => {
              backend.isExpelled = true
              this.#rid(backend)
              Deferred.doneUnsafe(backend.gone, Effect.void)
            })
          )
        )
    }
  }

  #rid(backend: Backend): void {
    this.backends.delete(backend.id)
    Deferred.doneUnsafe(backend.rid, Effect.void)
  }

  #close(backend: Backend): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      if (backend.isClosed) this.world.broke("C1 a connection is closed once", `connection ${backend.id}`)
      backend.isClosed = true
      const mayBeLent = backend.isExpelled || this.closingSince !== undefined
      if (backend.isLent && !mayBeLent)
        this.world.broke("C2 no connection is closed under its borrower", `connection ${backend.id}`)
      yield* Effect.yieldNow
      // The server knows nothing of the end of what is gone on our side alone. What was lost in the very instant in which it was
      // being closed counts as closed: nobody can have seen that it was lost.
      const isDead = backend.deadSince !== undefined && backend.deadSince < this.now
      const isHeard = !isDead && !backend.isUnanswered
      if (isHeard || this.closingSince !== undefined) this.#rid(backend)
    })
  }

  readonly source = ConnectionSource.of({
    name: "simulated",
    open: Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function* () {
        const { now: began, world } = this
        const number = ++this.#opened
        const role = yield* Role
        const made: { backend: Backend | undefined } = { backend: undefined }
        this.slots++
        if (this.slots > this.limits.max)
          world.broke("no more connections are open than may be", `${this.slots} of ${this.limits.max}`)
        if (this.isSuspended()) world.broke("a pool that is suspended opens nothing", "it opened one")
        if (this.closingSince !== undefined && this.closingSince < began)
          world.broke("a pool that closes opens nothing", "it opened one")
        yield* Scope.addFinalizer(
          yield* Effect.scope,
          Effect.andThen(
            Effect.suspend(() => (made.backend === undefined ? Effect.void : this.#close(made.backend))),
            Effect.sync(() => void this.slots--)
          )
        )
        const fault = this.opens.shift()
        const turn = number % 2 === 0 ? Effect.yieldNow : Effect.sleep(openMillis)
        yield* restore(fault === "hangs" ? this.#lasting(Effect.sleep(hangMillis)) : turn)
        if (fault !== undefined) return yield* this.#fails
        if (this.backends.size >= this.room) {
          this.failures++
          // The pool keeps to it for a minute.
          this.trouble(61_000)
          return yield* new ConnectionError({ reason: new NoRoom({ source: "simulated", cause: "full" }) })
        }
        const backend: Backend = {
          id: String(number),
          role,
          began,
          deadSince: undefined,
          retiredSince: undefined,
          isSilent: false,
          isUnanswered: false,
          isLent: false,
          isUsed: false,
          isClosed: false,
          isExpelled: false,
          heardAt: this.now,
          uses: 0,
          gone: Deferred.makeUnsafe(),
          rid: Deferred.makeUnsafe()
        }
        made.backend = backend
        this.backends.set(backend.id, backend)
        return this.#connectionOf(backend)
      })
    )
  })
}
