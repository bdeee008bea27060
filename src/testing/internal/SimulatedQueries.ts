/**
 * Principals whose queries run in a registry, over a pool of connections without a server: what they do, and what goes wrong
 * meanwhile.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Lifetime from "../../lifetime/Lifetime.ts"
import { QueryError, StatementFailed } from "../../query/QueryError.ts"
import type { QueryId } from "../../query/QueryId.ts"
import * as QueryRegistry from "../../query/QueryRegistry.ts"
import * as QueryResults from "../../query/QueryResults.ts"
import * as ScriptedQueryDriver from "../ScriptedQueryDriver.ts"
import * as SimulatedQueriesModel from "./SimulatedQueriesModel.ts"
import { type Act, type Kind, planned, type Step } from "./SimulatedQueriesPlan.ts"
import type { Scenario, World } from "./SimulatedScenario.ts"

const maxRunning = 3
const maxRunningPerPrincipal = 2
const retention = 60_000

/** Time for everything that ends by itself or by its deadline, also one after the other on one place. */
const timeFor = (steps: ReadonlyArray<Step>): number => {
  const submits = steps.filter(({ kind }) => kind === "submit" || kind === "again")
  const times = submits.map(
    ({ act, deadline }) => (act.millis === Infinity ? (deadline ?? 0) : act.millis) + act.cancelMillis
  )
  const longest = Math.max(0, ...times)
  // What has a key may do again what was submitted first under it.
  const all = submits.reduce((sum, { key }, index) => sum + (key === undefined ? (times[index] ?? 0) : longest), 1000)
  return Math.min(all, 55_000)
}

const run = (steps: ReadonlyArray<Step>, world: World) =>
  Effect.gen(function* () {
    const acts = new Map<string, Act>()
    const running = new Map<QueryId, string>()
    const principals = new Map<QueryId, string>()
    const started = new Map<string, number>()
    let isClosed = false

    // Rows are there when the statement is over; a cancel takes the server some time.
    const { driver, log } = ScriptedQueryDriver.make({
      open: () => Effect.yieldNow,
      close: () => Effect.yieldNow,
      execute: ({ sql }, sink, execution) => {
        const act = acts.get(sql)
        if (act === undefined) return Effect.die(new Error(`no act ${sql}`))
        started.set(sql, (started.get(sql) ?? 0) + 1)
        const summary = { command: "SELECT", rowCount: act.rows }
        const rows = Array.from({ length: act.rows }, (_, index) => [index])
        const fill = Effect.andThen(sink.columns([{ name: "n", type: "int4" }]), sink.rows(rows))
        const done = Effect.sync(() => {
          execution.onDone(Exit.succeed(summary))
          return summary
        })
        const fails = new QueryError({ reason: new StatementFailed({ problem: "as asked" }) })
        const began = Effect.sync(() => {
          running.set(execution.id, principals.get(execution.id) ?? "")
          const byPrincipal = Array.from(running.values()).filter((name) => name === running.get(execution.id)).length
          if (running.size > maxRunning) world.broke("I3 no more run than may", `${running.size} statements run`)
          if (running.get(execution.id) !== "" && byPrincipal > maxRunningPerPrincipal)
            world.broke("I3 no more of a principal run than may", `${byPrincipal} statements run`)
        })
        const over = Effect.sync(() => running.delete(execution.id))
        const wait = act.millis === Infinity ? Effect.never : Effect.sleep(act.millis)
        return Effect.uninterruptibleMask((restore) =>
          Effect.andThen(began, restore(wait)).pipe(
            Effect.onInterrupt(() =>
              Effect.andThen(
                act.cancelMillis === 0 ? Effect.yieldNow : Effect.sleep(act.cancelMillis),
                act.isDoneOnCancel ? Effect.andThen(Effect.ignore(fill), done) : Effect.void
              )
            ),
            Effect.andThen(act.fails ? Effect.fail(fails) : Effect.andThen(fill, done)),
            Effect.ensuring(over)
          )
        )
      }
    })

    const scope = yield* Scope.make()
    const results = Context.get(
      yield* Layer.buildWithScope(QueryResults.layerMemory(), scope),
      QueryResults.QueryResults
    )
    const registryScope = yield* Scope.make()
    const registry = yield* QueryRegistry.make({
      maxRunning,
      maxRunningPerPrincipal,
      maxWaiting: 4,
      maxWaitingPerPrincipal: 3,
      retention,
      drain: "100 millis"
    }).pipe(
      Scope.provide(registryScope),
      Effect.provide(ScriptedQueryDriver.layer(driver)),
      Effect.provideService(QueryResults.QueryResults, results)
    )
    const sessionsScope = yield* Scope.make()
    const sessions = yield* Effect.forEach([0, 1, 2], (index) =>
      Lifetime.scoped({ kind: "session", id: `s${index}`, release: "parallel" }).pipe(Scope.provide(sessionsScope))
    )
    const sessionOver = new Set<number>()

    /** Those of which it is known that they do what is asked, for as long as it takes. */
    const certain = new Set<QueryId>()
    const witness = SimulatedQueriesModel.witness(world, log.busy, (id) => !certain.has(id))

    const ids: Array<
      readonly [
        principal: string,
        id: QueryId,
        act: Act,
        deadline: number | undefined,
        at: number,
        session: number | undefined
      ]
    > = []
    const keys = new Map<string, QueryId>()
    const find = (step: Step) => ids.filter(([principal]) => principal === step.principal)[step.which]

    const submit = Effect.fnUntraced(function* (step: Step) {
      const sql = step.key === undefined ? `act ${step.act.name}` : `key ${step.principal} ${step.key}`
      if (!acts.has(sql)) acts.set(sql, step.act)
      const act = acts.get(sql) ?? step.act
      const owner = step.session === undefined ? undefined : sessions[step.session]
      const at = world.process.elapsed
      const wasOver = step.session !== undefined && sessionOver.has(step.session)
      const submitted = yield* Effect.exit(
        registry.submit({
          statement: { sql, params: [] },
          principal: step.principal,
          ...(owner !== undefined && { owner, session: `s${step.session}` }),
          ...(step.key === undefined && step.deadline !== undefined && { deadline: step.deadline }),
          ...(step.key !== undefined && { idempotencyKey: `k${step.key}` })
        })
      )
      if (Exit.isFailure(submitted)) return
      const record = submitted.value
      principals.set(record.id, step.principal)
      if (step.key === undefined && !act.fails && step.deadline === undefined) certain.add(record.id)
      witness(record)
      if (step.key !== undefined) {
        const known = keys.get(sql)
        if (known !== undefined && known !== record.id) world.broke("Q3 one key starts one query", sql)
        keys.set(sql, record.id)
      }
      if (wasOver && record.state === "Running") world.broke("S16 nothing begins for a session that is over", sql)
      ids.push([step.principal, record.id, act, step.key === undefined ? step.deadline : undefined, at, step.session])
    })

    const does: Readonly<
      Record<Exclude<Kind, "time" | "clock" | "close">, (step: Step) => Effect.Effect<unknown, QueryError>>
    > = {
      submit,
      again: submit,
      cancel: (step) =>
        of(step, (principal, id) =>
          Effect.map(registry.cancel(principal, id), (record) => {
            witness(record)
            if (!SimulatedQueriesModel.outcomes.has(record.state) && record.state !== "Expired")
              world.broke("Q2 a cancel returns with the outcome", record.state)
          })
        ),
      await: (step) =>
        of(step, (principal, id) =>
          Effect.map(registry.await(principal, id), (record) => {
            witness(record)
            if (!SimulatedQueriesModel.outcomes.has(record.state) && record.state !== "Expired")
              world.broke("Q2 `await` returns with the outcome", record.state)
          })
        ),
      status: (step) =>
        of(step, (principal, id) =>
          Effect.andThen(
            Effect.map(registry.status(principal, id), witness),
            Effect.map(Effect.exit(registry.status("eve", id)), (exit) => {
              if (Exit.isSuccess(exit)) world.broke("Q4 nobody sees another's query", String(id))
            })
          )
        ),
      events: (step) =>
        of(step, (principal, id) =>
          Stream.runForEach(registry.events(principal, id), ({ record }) => Effect.sync(() => witness(record)))
        ),
      rows: (step) =>
        of(step, (principal, id, act) =>
          Effect.map(Effect.exit(Stream.runCollect(registry.rows(principal, id))), (exit) => {
            if (Exit.isSuccess(exit) && exit.value.length !== act.rows)
              world.broke("Q5 rows are there whole", `${exit.value.length} of ${act.rows}`)
          })
        ),
      list: (step) =>
        Effect.map(registry.list(step.principal), ({ queries }) => {
          for (const record of queries) {
            witness(record)
            if (record.principal !== step.principal) world.broke("Q4 a list has one's own queries", record.principal)
          }
        }),
      prune: () => registry.prune,
      logout: (step) =>
        Effect.gen(function* () {
          const index = step.which % 3
          yield* sessions[index]?.end() ?? Effect.void
          sessionOver.add(index)
          for (const [principal, id, , , , session] of ids) {
            if (session !== index) continue
            const exit = yield* Effect.exit(registry.status(principal, id))
            if (
              Exit.isSuccess(exit) &&
              !SimulatedQueriesModel.outcomes.has(exit.value.state) &&
              exit.value.state !== "Expired"
            )
              world.broke("S9 Q2 the end of a session ends its queries before it returns", exit.value.state)
          }
        })
    }
    function of<A>(step: Step, use: (principal: string, id: QueryId, act: Act) => Effect.Effect<A, QueryError>) {
      const found = find(step)
      return found === undefined ? Effect.void : Effect.asVoid(use(found[0], found[1], found[2]))
    }

    const close = Effect.gen(function* () {
      const at = world.process.elapsed
      yield* Scope.close(registryScope, Exit.void)
      isClosed = true
      if (world.process.elapsed - at > 5500)
        world.broke("Q7 closing is over in time", `${world.process.elapsed - at} ms`)
    })

    const one = (step: Step) =>
      Effect.gen(function* () {
        if (world.isBroken()) return
        world.note(`fiber ${step.fiber}: ${step.text}`)
        if (step.kind === "time") return yield* Effect.sleep(step.millis)
        if (step.kind === "clock") return world.process.set(step.millis)
        if (step.kind === "close") return yield* close
        const working = yield* Effect.forkDetach(does[step.kind](step))
        if (step.giveUp !== undefined) {
          yield* Effect.repeat(Effect.yieldNow, { times: step.giveUp })
          yield* Fiber.interrupt(working)
        }
        // What hangs until somebody cancels it is waited for no longer than a second.
        yield* Effect.raceFirst(Effect.asVoid(Fiber.await(working)), Effect.sleep("1 second"))
        if (working.pollUnsafe() === undefined) yield* Fiber.interrupt(working)
        const exit = working.pollUnsafe()
        if (
          exit !== undefined &&
          Exit.isFailure(exit) &&
          !Exit.hasInterrupts(exit) &&
          Option.isNone(Exit.findErrorOption(exit))
        )
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
    if (!isClosed) {
      yield* Effect.sleep(timeFor(steps))
      for (const [principal, id, act, deadline] of ids) {
        const exit = yield* Effect.exit(registry.status(principal, id))
        if (Exit.isFailure(exit)) continue
        witness(exit.value)
        const isOver = SimulatedQueriesModel.outcomes.has(exit.value.state) || exit.value.state === "Expired"
        const mayHang = act.millis === Infinity && deadline === undefined
        const mayWait = exit.value.state === "Queued"
        if (!isOver && !mayHang && !mayWait)
          world.broke("Q2 every query comes to its end", `${exit.value.state} for ever`)
      }
      // All places are free when all is cancelled.
      yield* Effect.forEach(["alice", "bob"], (principal) =>
        Effect.forEach(
          ids.filter(([owner]) => owner === principal),
          ([, id]) => Effect.ignore(registry.cancel(principal, id))
        )
      )
      acts.set("last", { name: -1, rows: 1, millis: 0, fails: false, cancelMillis: 0, isDoneOnCancel: false })
      const last = yield* Effect.forEach(
        [1, 2],
        () => Effect.exit(registry.submit({ statement: { sql: "last", params: [] }, principal: "carol" })),
        { concurrency: "unbounded" }
      )
      for (const exit of last) {
        if (Exit.isFailure(exit)) {
          world.broke("C4 what is over takes no place", String(exit.cause))
          continue
        }
        const record = yield* registry.await("carol", exit.value.id)
        if (record.state !== "Succeeded") world.broke("C4 what is over takes no place", record.state)
      }
      yield* close
    }
    if (log.busy.size > 0 || running.size > 0)
      world.broke("Q7 when the registry is closed nothing runs", `${running.size} statements`)
    for (const [connection, times] of log.closed)
      if (times !== 1) world.broke("C1 a connection is released once", `connection ${connection}: ${times} times`)
    if (log.closed.size !== log.opened())
      world.broke("C1 what was opened is closed", `${log.opened()} opened, ${log.closed.size} closed`)
    for (const [sql, times] of started)
      if (times > 1 && sql.startsWith("key")) world.broke("Q3 one key starts one query", `${sql} ran ${times} times`)
    yield* Scope.close(sessionsScope, Exit.void)
    yield* Scope.close(scope, Exit.void)
  })

export const scenario: Scenario<Step> = { name: "queries", plan: planned, run }
