import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Lifetime from "../../src/lifetime/Lifetime.ts"
import type { QueryError } from "../../src/query/QueryError.ts"
import type { QueryId } from "../../src/query/QueryId.ts"
import type { QueryRecord } from "../../src/query/QueryRecord.ts"
import type * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import { scale } from "../../src/testing/InterruptSweep.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import type * as ScriptedQueryDriver from "../../src/testing/ScriptedQueryDriver.ts"
import { act, alone, open } from "../support/scripted.ts"

/** The picture of the design, said once more: a history is one of these paths. */
const history =
  /^Queued( Starting( Running( Succeeded)?)?)?( Failed)?$|^Queued( Starting( Running)?)? Canceling( Canceled| Succeeded| Failed)?$/

const outcomes: ReadonlySet<string> = new Set(["Succeeded", "Failed", "Canceled"])
const isOutcome = (state: string) => outcomes.has(state)

/** Checks every record that anybody gets to see against all that were seen before. */
const makeWitness = (log: ScriptedQueryDriver.Log) => {
  const seen = new Map<QueryId, string>()
  let records = 0
  const witness = (record: QueryRecord) => {
    records++
    const states = record.transitions.map(({ state }) => state)
    const path = states.filter((state) => state !== "Expired").join(" ")
    assert.match(path, history)
    assert.strictEqual(states.at(-1), record.state)
    const before = seen.get(record.id) ?? ""
    // An event tells what was; everything else tells what is.
    assert.isTrue(path.startsWith(before) || before.startsWith(path), `${before}, then ${path}`)
    if (path.length > before.length) seen.set(record.id, path)
    const times = record.transitions.map(({ at }) => at.epochMilliseconds)
    assert.deepStrictEqual(
      times,
      times.toSorted((a, b) => a - b)
    )
    const isOver = states.some(isOutcome)
    assert.strictEqual(record.expiresAt !== null, isOver)
    assert.strictEqual(
      record.error !== null,
      states.some((state) => state === "Failed" || state === "Canceled")
    )
    assert.strictEqual(record.rowCount !== null, states.includes("Succeeded"))
    if (isOver) assert.isFalse(log.busy.has(record.id), "Q1 a terminal state is visible only after the release")
  }
  return { witness, records: () => records, seen }
}

type World = Effect.Success<ReturnType<typeof makeWorld>>

const makeWorld = Effect.fnUntraced(function* () {
  const { close, log, registry } = yield* open(
    { maxRunning: 4, maxRunningPerPrincipal: 3, maxWaiting: 20, maxWaitingPerPrincipal: 10, retention: 1 },
    { close: () => Effect.yieldNow }
  )
  const sessions = yield* Effect.forEach(Array.from({ length: 6 }), (_, index) =>
    Lifetime.scoped({ kind: "session", id: `s${index}`, release: "parallel" })
  )
  return { close, log, registry, sessions, ids: [] as Array<[principal: string, id: QueryId]>, ...makeWitness(log) }
})

const pick = <A>(from: ReadonlyArray<A>): Effect.Effect<A | undefined> =>
  Effect.map(Random.nextIntBetween(0, Math.max(from.length, 1)), (index) => from[index])

const chance = (share: number) => Effect.map(Random.next, (value) => value < share)

const principals = ["alice", "bob", "carol"]

const submit = Effect.fnUntraced(function* ({ ids, registry, sessions, witness }: World) {
  const principal = (yield* pick(principals)) ?? "alice"
  const isOwned = yield* chance(0.5)
  const index = yield* Random.nextIntBetween(0, sessions.length)
  const statement = act({
    rows: yield* Random.nextIntBetween(0, 5),
    turns: yield* Random.nextIntBetween(0, 12),
    hangs: yield* chance(0.3),
    fails: yield* chance(0.2),
    cancelTurns: yield* Random.nextIntBetween(0, 4),
    isDoneOnCancel: yield* chance(0.3)
  })
  const submission: QueryRegistry.Submission = {
    statement,
    principal,
    ...(isOwned && { owner: sessions[index], session: `s${index}` }),
    ...((yield* chance(0.2)) && { deadline: yield* Random.nextIntBetween(0, 5) }),
    ...((yield* chance(0.2)) && { idempotencyKey: `k${yield* Random.nextIntBetween(0, 20)}` }),
    ...((yield* chance(0.5)) && { retention: "1 minute" })
  }
  const record = yield* registry.submit(submission)
  witness(record)
  ids.push([principal, record.id])
})

const operations: ReadonlyArray<readonly [weight: number, run: (world: World) => Effect.Effect<unknown, QueryError>]> =
  [
    [10, submit],
    [6, withId((world, principal, id) => Effect.map(world.registry.cancel(principal, id), world.witness))],
    [4, withId((world, principal, id) => Effect.map(world.registry.status(principal, id), world.witness))],
    // Nobody may ever cancel it, so one does not wait for ever.
    [4, withId((world, principal, id) => Effect.map(world.registry.await(principal, id), world.witness))],
    [
      3,
      withId(({ registry, witness }, principal, id) =>
        Stream.runForEach(registry.events(principal, id), ({ record }) => Effect.sync(() => witness(record)))
      )
    ],
    [
      3,
      withId(({ registry }, principal, id) =>
        Effect.map(Stream.runCollect(registry.rows(principal, id)), (rows) =>
          assert.deepStrictEqual(
            rows.map(([value]) => value),
            rows.map((_, index) => index)
          )
        )
      )
    ],
    [
      2,
      ({ registry, witness }) =>
        Effect.map(registry.list("bob", { limit: 5 }), ({ queries }) => queries.forEach(witness))
    ],
    [2, ({ registry }) => registry.prune],
    [
      1,
      ({ registry, witness }) =>
        Effect.flatMap(Random.nextIntBetween(0, 6), (index) =>
          Effect.map(registry.cancelAll({ session: `s${index}` }), (records) => records.forEach(witness))
        )
    ],
    [1, ({ sessions }) => Effect.flatMap(pick(sessions), (session) => session?.end() ?? Effect.void)]
  ]

function withId(run: (world: World, principal: string, id: QueryId) => Effect.Effect<unknown, QueryError>) {
  return (world: World) =>
    Effect.flatMap(pick(world.ids), (found) => (found === undefined ? Effect.void : run(world, ...found)))
}

const total = operations.reduce((sum, [weight]) => sum + weight, 0)

const operate = Effect.fnUntraced(function* (world: World) {
  let ticket = yield* Random.nextIntBetween(0, total)
  const found = operations.find(([weight]) => (ticket -= weight) < 0)
  const operation = found?.[1](world) ?? Effect.void
  // A caller may give up at any point.
  const patience = yield* Random.nextIntBetween(1, 60)
  const givingUp = Effect.repeat(Effect.yieldNow, { times: patience })
  yield* Effect.raceFirst(Effect.exit(operation), Effect.as(givingUp, Exit.void)).pipe(
    Effect.flatMap((exit) => {
      const isDefect = Exit.isFailure(exit) && Exit.hasDies(exit)
      return isDefect ? Effect.failCause(exit.cause) : Effect.void
    })
  )
})

/** When everything is cancelled, as many run at once as ever. */
const allPermitsAreFree = Effect.fnUntraced(function* ({ registry }: World) {
  yield* Effect.forEach(principals, (principal) => registry.cancelAll({ principal }))
  const hanging = yield* Effect.forEach(["alice", "alice", "bob", "bob"], (principal) =>
    registry.submit({ statement: act({ hangs: true }), principal })
  )
  for (const { id, principal } of hanging) {
    yield* Stream.runDrain(Stream.takeUntil(registry.events(principal, id), ({ record }) => record.state === "Running"))
  }
})

const fibers = 50
const operationsPerFiber = 20
const rounds = 10

describe("a registry under fifty fibers that do anything at any time", () => {
  it.live(
    `${rounds * fibers * operationsPerFiber} operations: states always legal, each connection released once, the ledger empty`,
    () =>
      Effect.gen(function* () {
        let submitted = 0
        for (let round = 0; round < rounds * scale; round++) {
          const seed = `${Date.now()} ${round}`
          const ends = yield* alone(
            Effect.gen(function* () {
              const scope = yield* Scope.make()
              const world = yield* Scope.provide(makeWorld(), scope)
              const user = Effect.repeat(operate(world), { times: operationsPerFiber - 1 })
              const users = Effect.all(
                Array.from({ length: fibers }, () => user),
                { concurrency: "unbounded", discard: true }
              )
              // Every other round, the registry closes while they are at it.
              const closing =
                round % 2 === 0
                  ? Effect.void
                  : Effect.andThen(Effect.repeat(Effect.yieldNow, { times: 100 + round * 20 }), world.close)
              yield* Effect.all([users, closing], { concurrency: "unbounded" })
              if (round % 2 === 0) yield* allPermitsAreFree(world)
              yield* world.close
              yield* Scope.close(scope, Exit.void)
              const { log, records, seen } = world
              assert.deepStrictEqual(
                [...log.closed.values()].filter((times) => times !== 1),
                []
              )
              assert.strictEqual(log.closed.size, log.opened())
              assert.strictEqual(log.busy.size, 0)
              assert.isAbove(records(), 100)
              yield* LedgerRecorder.assertEmpty()
              return [...seen.values()].filter((path) => isOutcome(path.split(" ").at(-1) ?? "")).length
            }).pipe(
              Random.withSeed(seed),
              Effect.provideService(Scheduler.MaxOpsBeforeYield, 3 + round * 7),
              Effect.annotateLogs("seed", seed)
            )
          ).pipe(Effect.tapCause((cause) => Effect.logError(`The seed was ${seed}`, cause)))
          submitted += ends
        }
        assert.isAbove(submitted, 500)
      }),
    120_000
  )
})
