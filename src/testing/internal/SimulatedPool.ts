/**
 * Borrowers of a pool over connections without a server: what they do, and what goes wrong meanwhile. What must hold is said
 * where it is seen: by the server in `SimulatedPoolServer`, by those who borrow in `SimulatedPoolBorrowers`, and at the end here.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { ConnectionError } from "../../connection/ConnectionError.ts"
import * as ConnectionPool from "../../connection/ConnectionPool.ts"
import { ConnectionSource } from "../../connection/ConnectionSource.ts"
import { Borrowers } from "./SimulatedPoolBorrowers.ts"
import { type Kind, planned, type Step, type Use, usual } from "./SimulatedPoolPlan.ts"
import * as SimulatedPoolServer from "./SimulatedPoolServer.ts"
import type { Scenario, World } from "./SimulatedScenario.ts"

/** When the pool has found out everything, and when it has forgotten that there was no room. */
const quiet = 16_000
const forgotten = 61_000

const run = (steps: ReadonlyArray<Step>, world: World) =>
  Effect.gen(function* () {
    const limits = steps.find(({ kind }) => kind === "pool")?.limits ?? usual
    const server = new SimulatedPoolServer.Server(world, limits)
    const roles = new Set(steps.filter(({ kind }) => kind === "borrow").map(({ use }) => use.role))
    const borrowers = new Borrowers(server, roles.size === 1 && !steps.some(({ kind }) => kind === "ping"))
    const scope = yield* Scope.make()
    const pool = yield* ConnectionPool.make({
      min: limits.min,
      max: limits.max,
      maxUses: limits.maxUses,
      maxLease: limits.maxLease,
      maxLifetime: limits.maxLifetime,
      maxWaiting: SimulatedPoolServer.maxWaiting,
      acquireTimeout: SimulatedPoolServer.acquireTimeout,
      resetTimeout: SimulatedPoolServer.resetTimeout,
      checkAfterIdle: SimulatedPoolServer.checkAfterIdle,
      idleTimeout: SimulatedPoolServer.idleTimeout,
      closeTimeout: SimulatedPoolServer.closeTimeout
    }).pipe(Scope.provide(scope), Effect.provideService(ConnectionSource, server.source))

    /** Uses a connection, and lets go when it is gone. */
    const use = (lease: ConnectionPool.Lease, { isStubborn, millis, what }: Use) =>
      Effect.gen(function* () {
        const backend = server.backends.get(lease.id)
        const works = millis === 0 ? Effect.yieldNow : Effect.sleep(millis)
        const isGone = backend === undefined ? Effect.void : Deferred.await(backend.gone)
        yield* isStubborn ? works : Effect.raceFirst(works, isGone)
        if (what === "retires it") yield* lease.retire
        if (what === "kills it") {
          server.trouble()
          yield* lease.kill
        }
        if (what === "fails") yield* Effect.fail("as asked" as const)
      })

    const borrow = (wish: Use, meanwhile: (lease: ConnectionPool.Lease) => Effect.Effect<unknown, "as asked">) =>
      Effect.suspend(() => {
        const borrower = borrowers.asks(wish.key)
        return Effect.scoped(
          Effect.gen(function* () {
            const lease = yield* Effect.uninterruptibleMask((restore) =>
              Effect.tap(restore(pool.lease({ key: wish.key, role: wish.role })), ({ id }) => {
                borrowers.has(borrower, id, wish.role)
                return Effect.addFinalizer(() => Effect.sync(() => borrowers.gaveBack()))
              })
            )
            yield* meanwhile(lease)
          })
        ).pipe(
          Effect.tapError((error) =>
            Effect.sync(() => {
              if (error !== "as asked") borrowers.refused(borrower, error)
            })
          ),
          Effect.ensuring(Effect.sync(() => borrowers.stops(borrower)))
        )
      })

    const open = (which: number) => server.open().at(which % Math.max(1, server.open().length))
    const close = Effect.gen(function* () {
      const { elapsed } = world.process
      if (server.closingSince !== undefined) return
      server.closingSince = elapsed
      yield* Scope.close(scope, Exit.void)
      const spent = world.process.elapsed - elapsed
      if (spent > SimulatedPoolServer.closeTimeout + 1000) world.broke("C7 closing is over in time", `${spent} ms`)
      if (server.slots > 0) world.broke("C7 a pool that is closed has no connection", `${server.slots} are open`)
    })
    const sync = (does: () => void) => Effect.sync(does)
    const does: Readonly<
      Record<Exclude<Kind, "pool">, (step: Step) => Effect.Effect<unknown, ConnectionError | "as asked">>
    > = {
      borrow: (step) => borrow(step.use, (lease) => use(lease, step.use)),
      dies: ({ which }) =>
        sync(() => {
          const backend = open(which)
          if (backend !== undefined) server.dies(backend)
        }),
      "falls silent": ({ which }) =>
        sync(() => {
          const backend = open(which)
          if (backend !== undefined) backend.isSilent = true
        }),
      retires: ({ which }) =>
        sync(() => {
          const backend = open(which)
          if (backend !== undefined) backend.retiredSince ??= server.now
        }),
      "open fails": () => sync(() => void server.opens.push("fails")),
      "open hangs": () => sync(() => void server.opens.push("hangs")),
      "reset fails": () => sync(() => void server.resets.push("fails")),
      "reset hangs": () => sync(() => void server.resets.push("hangs")),
      room: ({ which }) => sync(() => void (server.room = which)),
      evict: () =>
        Effect.andThen(
          pool.evictAll,
          sync(() => void (server.evictedAt = server.now))
        ),
      suspend: ({ millis }) =>
        Effect.scoped(
          Effect.gen(function* () {
            const suspension = { since: server.now }
            yield* pool.suspend
            yield* Effect.acquireRelease(
              sync(() => void server.suspensions.add(suspension)),
              () =>
                sync(() => {
                  server.suspensions.delete(suspension)
                  server.trouble()
                })
            )
            yield* Effect.sleep(millis)
          })
        ),
      ping: () =>
        Effect.suspend(() => {
          const { failures, now } = server
          return Effect.tapError(pool.ping, ({ reason }) =>
            sync(() => {
              if (server.now - now > SimulatedPoolServer.acquireTimeout)
                world.broke("C5 whether the pool works is answered in time", `${server.now - now} ms`)
              const isFault =
                server.failures > failures || server.isTroubledFor(forgotten) || server.closingSince !== undefined
              if (!isFault && borrowers.leased === 0) world.broke("a pool that works says so", reason._tag)
            })
          )
        }),
      time: ({ millis }) => Effect.sleep(millis),
      clock: ({ millis }) => sync(() => world.process.set(millis)),
      close: () => close
    }

    const one = (step: Step) =>
      Effect.gen(function* () {
        if (world.isBroken() || step.kind === "pool") return
        world.note(`fiber ${step.fiber}: ${step.text}`)
        const working = yield* Effect.forkDetach(does[step.kind](step))
        if (step.giveUp !== undefined) {
          yield* Effect.repeat(Effect.yieldNow, { times: step.giveUp })
          yield* Fiber.interrupt(working)
        }
        const exit = yield* Fiber.await(working)
        if (Exit.isFailure(exit) && !Exit.hasInterrupts(exit) && Option.isNone(Exit.findErrorOption(exit)))
          world.broke("nothing dies", `${step.text}: ${String(exit.cause)}`)
      })

    const fibers = Array.from(new Set(steps.map(({ fiber }) => fiber)))
    yield* Effect.all(
      fibers.map((fiber) =>
        Effect.forEach(
          steps.filter((step) => step.fiber === fiber),
          one,
          { discard: true }
        )
      ),
      { concurrency: "unbounded", discard: true }
    )

    if (server.closingSince === undefined) {
      // Now nothing goes wrong any more, and what has gone wrong is found out.
      const wasFull = server.room < Infinity
      server.room = Infinity
      server.opens.length = 0
      server.resets.length = 0
      yield* Effect.sleep(wasFull ? forgotten : quiet)
      const wish: Use = { key: "last", role: undefined, millis: 0, what: "works", isStubborn: false }
      const all = yield* Latch.make(false)
      let have = 0
      const last = Effect.exit(
        borrow(wish, () =>
          Effect.suspend(() => {
            if (++have === limits.max) all.openUnsafe()
            return all.await
          })
        )
      )
      const asked = server.now
      const exits = yield* Effect.all(
        Array.from({ length: limits.max }, () => Effect.timeoutOption(last, "3 seconds")),
        { concurrency: "unbounded" }
      )
      const served = exits.filter((exit) => Option.isSome(exit) && Exit.isSuccess(exit.value)).length
      if (served < limits.max || server.now - asked > 1000)
        world.broke(
          "C4 what was given back is free",
          `${served} of ${limits.max} have a connection, after ${server.now - asked} ms`
        )
      yield* Effect.sleep(SimulatedPoolServer.idleTimeout + 3000)
      const { leased, open, waiting, zombies } = yield* pool.stats
      if (leased + waiting + zombies > 0)
        world.broke("C4 what is over takes no place", `${leased} leased, ${waiting} waiting, ${zombies} zombies`)
      // One that is too old is being replaced just now.
      const mayLack = limits.maxLifetime < usual.maxLifetime
      if (open > limits.min || (open < limits.min && !mayLack))
        world.broke("`min` are kept, and no more", `${open} are open`)
      if (server.backends.size !== open && !mayLack)
        world.broke("C2 the server has what the pool has", `${server.backends.size} and ${open}`)
      yield* close
    }
    if (server.backends.size > 0)
      world.broke("C7 after closing the server has none of the pool's connections", `${server.backends.size} are left`)
    if (borrowers.leased > 0) world.broke("C1 what was lent is given back", `${borrowers.leased} are lent`)
  })

export const scenario: Scenario<Step> = { name: "pools", plan: planned, run }
