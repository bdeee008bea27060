/**
 * Clients of two instances of an app over one store: what they do, and what goes wrong meanwhile. What must hold is in
 * `SimulatedSessionsModel`.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Ledger from "../../lifetime/Ledger.ts"
import { Hints } from "../../session/internal/MemorySession.ts"
import * as MemorySessionStore from "../../session/MemorySessionStore.ts"
import * as Session from "../../session/Session.ts"
import { SessionError, SessionsUnavailable } from "../../session/SessionError.ts"
import * as Sessions from "../../session/Sessions.ts"
import { SessionStore } from "../../session/SessionStore.ts"
import type { SessionToken } from "../../session/SessionToken.ts"
import { type Fault, planned, type Step } from "./SimulatedSessionsPlan.ts"
import { absolute, cap, checkStore, idle, renewEvery } from "./SimulatedSessionsKnown.ts"
import * as SimulatedSessionsModel from "./SimulatedSessionsModel.ts"
import type { Scenario, World } from "./SimulatedScenario.ts"

type Store = SessionStore["Service"]

/** The session of the app: each change leaves a mark of its own. */
class Marks extends Session.Service<Marks>()("holdfast/testing/Marks", {
  data: Schema.Array(Schema.Int),
  initial: [],
  idleTimeout: idle,
  absoluteTimeout: absolute,
  renewEvery,
  maxPerPrincipal: cap
}) {}

/** What goes wrong with the calls of the step that is being done. */
const Faults = Context.Reference<{ readonly fault: Fault | undefined; calls: number; loads: number } | undefined>(
  "holdfast/testing/Faults",
  {
    defaultValue: () => undefined
  }
)

const away = Effect.fail(new SessionError({ reason: new SessionsUnavailable({ cause: "simulated" }) }))

/** What a client keeps: the token that it was told last, and those before. */
interface Browser {
  token: Option.Option<SessionToken>
  readonly old: Array<SessionToken>
}

/** One instance: its sessions over the store, and the way there and back. */
interface Instance {
  readonly sessions: Sessions.Sessions["Service"]
  readonly scope: Scope.Closeable
  readonly ledger: Ledger.Ledger
  isDead: boolean
}

const openInstance = (store: Store, model: SimulatedSessionsModel.Model) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const state = { isDead: false }
    /** A call takes a turn there and a turn back. Nothing comes back to an instance that has stopped. */
    const over = <A>(call: Effect.Effect<A, SessionError>): Effect.Effect<A, SessionError> =>
      Effect.gen(function* () {
        const faults = yield* Faults
        const fault = faults !== undefined && ++faults.calls === faults.fault?.call ? faults.fault.what : undefined
        yield* Effect.yieldNow
        if (fault === "pause") yield* Effect.sleep(5000)
        if (state.isDead) return yield* Effect.never
        if (fault === "request lost") {
          model.faults++
          return yield* away
        }
        const answer = yield* Effect.exit(call)
        yield* Effect.yieldNow
        if (state.isDead) return yield* Effect.never
        if (fault === "answer lost") {
          model.faults++
          return yield* away
        }
        return yield* answer
      })
    const remote: Store = {
      ...store,
      create: (session) => over(store.create(session)),
      load: (token) =>
        Effect.andThen(
          Effect.map(Faults, (faults) => void (faults !== undefined && faults.loads++)),
          over(store.load(token))
        ),
      touch: (token) => over(store.touch(token)),
      update: (change) => over(store.update(change)),
      renew: (renewal) => over(store.renew(renewal)),
      authenticate: (login) => over(store.authenticate(login)),
      rotate: (rotation) => over(store.rotate(rotation)),
      setExpiry: (expiry) => over(store.setExpiry(expiry)),
      revoke: (id) => over(store.revoke(id)),
      revokeAll: (principal, options) => over(store.revokeAll(principal, options)),
      list: (principal) => over(store.list(principal)),
      endedOf: (ids) => over(store.endedOf(ids)),
      // Half of the hints are lost: nothing may depend on them.
      ended: Stream.filter(store.ended, () => model.world.choices.chance(0.5))
    }
    const layer = Layer.fresh(Sessions.layer()).pipe(Layer.provide(Layer.succeed(SessionStore, remote)))
    // A ledger of its own: what an instance held that stopped is nobody's any more.
    const ledger = Ledger.makeUnsafe()
    const context = yield* Effect.provideService(Layer.buildWithScope(layer, scope), Ledger.Ledger, ledger)
    return Object.assign(state, { sessions: Context.get(context, Sessions.Sessions), scope, ledger }) as Instance
  })

const run = (made: Effect.Effect<Store, never, Scope.Scope>) => (steps: ReadonlyArray<Step>, world: World) =>
  Effect.gen(function* () {
    const store = yield* made
    const model = new SimulatedSessionsModel.Model(world)
    const instances = [yield* openInstance(store, model), yield* openInstance(store, model)]
    const browsers = Array.from({ length: 3 }, (): Browser => ({ token: Option.none(), old: [] }))
    const instanceOf = (step: Step) => instances[step.instance] as Instance
    let marks = 0

    const operation = (step: Step, instance: Instance) =>
      Effect.gen(function* () {
        const browser = browsers[step.browser] ?? { token: Option.none(), old: [] }
        // Somebody has kept a token that the client was told before.
        const token = step.kind === "old" ? Option.fromUndefinedOr(browser.old.at(-1)) : browser.token
        const seen = model.begin(step.kind === "old" ? "visit" : step.kind, step.principal, token)
        const handle = yield* Marks.handle({
          token,
          ...(step.kind === "renew" && {
            onDue: (renew: Effect.Effect<boolean, SessionError>) => Effect.ignore(renew)
          }),
          onToken: (change) =>
            Effect.sync(() => {
              const token = Option.map(change, ({ token }) => token)
              if (step.kind === "old") return
              if (Option.isSome(browser.token) && Option.isSome(token)) browser.old.push(browser.token.value)
              // An old answer that arrives late does not take the place of a newer one.
              if (Option.isSome(token) || Option.getOrNull(browser.token) === Option.getOrNull(seen.token))
                browser.token = token
              model.told(seen, token)
            })
        })
        // Two fibers of one request ask at once.
        const [asked] = yield* Effect.all([Effect.exit(handle.record), Effect.exit(handle.data)], {
          concurrency: "unbounded"
        })
        const loads = (yield* Faults)?.loads ?? 0
        if (loads > 1 && step.fault === undefined)
          world.broke("a handle loads its session once", `it asked ${loads} times`)
        model.loaded(seen, asked)
        const id = Exit.isSuccess(asked) ? asked.value.id : undefined
        if (step.kind === "change") {
          const mark = ++marks
          model.mayMark(seen, id, mark)
          const changed = yield* Effect.exit(handle.modify((all) => [...all, mark]))
          const now = yield* Effect.exit(handle.id)
          model.changed(seen, id, Exit.isSuccess(now) ? now.value : undefined, mark, changed)
        } else if (step.kind === "login") {
          const login = yield* Effect.exit(handle.authenticate(step.principal))
          model.loggedIn(seen, step.principal, asked, login)
        } else if (step.kind === "logout") {
          const exit = yield* Effect.exit(handle.logout)
          if (id !== undefined && Exit.isSuccess(exit)) {
            model.ended(id, `logout of browser ${step.browser}`)
            if (Exit.isSuccess(yield* Effect.exit(handle.data)))
              world.broke("S3 a handle knows of the end of its session", "its data was read after its logout")
          }
        } else if (step.kind === "revokeOthers") {
          const exit = yield* Effect.exit(handle.revokeOthers)
          if (Exit.isSuccess(exit)) for (const other of exit.value) model.ended(other, "revokeOthers")
          model.othersRevoked(seen, asked, exit)
        } else if (step.kind === "rotate") {
          model.rotated(seen, yield* Effect.exit(handle.rotate))
        } else if (step.kind === "work" && id !== undefined) {
          const work = yield* Effect.exit(handle.run(Effect.never))
          if (Exit.isSuccess(work)) model.works.push({ id, instance, fiber: work.value })
        } else if (step.kind === "list" && id !== undefined) {
          model.listed(seen, yield* Effect.exit(handle.devices))
        } else if (step.kind === "visit") {
          model.read(seen, id, yield* Effect.exit(handle.data))
        }
        // An end that has returned has ended what this instance did for the session.
        yield* Effect.sync(() => model.checkWorks(instance))
        model.end(seen)
      }).pipe(
        Effect.scoped,
        Effect.provideService(Sessions.Sessions, instance.sessions),
        Effect.provideService(Ledger.Ledger, instance.ledger)
      )

    const one = (step: Step) =>
      Effect.gen(function* () {
        if (world.isBroken()) return
        world.note(`fiber ${step.fiber}: ${step.text}`)
        // Only the store goes by the time of day: to move it costs no timer of hours.
        if (step.kind === "time" || step.kind === "clock") {
          model.clockMoved(() => world.process.set(step.millis))
          return
        }
        const instance = instanceOf(step)
        if (step.kind === "crash") {
          instance.isDead = true
          instances[step.instance] = yield* openInstance(store, model)
          return
        }
        const working = yield* Effect.forkDetach(
          Effect.provideService(operation(step, instance), Faults, { fault: step.fault, calls: 0, loads: 0 })
        )
        if (step.giveUp !== undefined) {
          yield* Effect.repeat(Effect.yieldNow, { times: step.giveUp })
          working.interruptUnsafe()
        }
        // What asks an instance that has stopped waits for ever.
        yield* Effect.raceFirst(Effect.asVoid(Fiber.await(working)), Effect.sleep("1 minute"))
        const exit = working.pollUnsafe()
        if (exit === undefined && !instance.isDead) world.broke("S11 every call is over in time", step.text)
        if (exit !== undefined && Exit.isFailure(exit) && !Exit.hasInterrupts(exit)) {
          world.broke("nothing dies", `${step.text}: ${String(exit.cause)}`)
        }
        yield* checkStore(world, store)
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

    // Now nothing goes wrong any more: what every instance was not told by a hint it finds out by asking.
    model.isQuiet = true
    yield* Effect.sleep("21 seconds")
    for (const browser of browsers) {
      const instance = instances[0] as Instance
      const seen = model.begin("visit", "", browser.token)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const handle = yield* Marks.handle({ token: browser.token })
          const asked = yield* Effect.exit(handle.record)
          model.loaded(seen, asked)
          if (Exit.isSuccess(asked)) model.read(seen, asked.value.id, yield* Effect.exit(handle.data))
          model.end(seen)
        })
      ).pipe(
        Effect.provideService(Sessions.Sessions, instance.sessions),
        Effect.provideService(Ledger.Ledger, instance.ledger)
      )
    }
    yield* checkStore(world, store)
    model.checkAllWorks((instance) => (instance as Instance).isDead)
    for (const { ledger, scope } of instances) {
      yield* Scope.close(scope, Exit.void)
      world.checkLedger(ledger)
    }
  })

/** A store in memory, with room for few hints: a large one takes longer to make than a run. */
export const memory: Effect.Effect<Store> = Effect.provideService(MemorySessionStore.make, Hints, 64)

/** What clients do to sessions over a store. */
export const over = (store: Effect.Effect<Store, never, Scope.Scope>): Scenario<Step> => ({
  name: "sessions",
  plan: planned,
  run: run(store)
})
