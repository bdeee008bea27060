/**
 * Whether the service can do its work: its tables are there, and the databases in use answer.
 *
 * Preparing goes on in the background for as long as the service lives, until it succeeded: a service that starts before
 * its database is live at once and ready when the database is.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import { QueryResults } from "../query/QueryResults.ts"
import { SessionStore } from "../session/SessionStore.ts"
import type { Databases } from "./Databases.ts"
import { FailureCounts } from "./FailureCounts.ts"
import { type Engine, Engines, onceASecond } from "./Engines.ts"
import * as FunctionServices from "./FunctionServices.ts"
import * as SessionStores from "./SessionStores.ts"
import * as SharedQueries from "./SharedQueries.ts"
import type { Settings } from "./Settings.ts"
import { Users } from "./Users.ts"
import * as UsersMigrations from "./UsersMigrations.ts"

export class Readiness extends Context.Service<
  Readiness,
  {
    /** Waits until the tables and the user `demo` are there, also while sessions are away. */
    readonly prepared: Effect.Effect<void>
    /**
     * What is being waited for; empty when the service is ready. `tables` are not there yet, `sessions`, `users` or `queries`
     * are where nobody answers, with several engines when no engine does; `users` is not told apart from `sessions` where both are in one database. `sessions` stands
     * for the counts of failed logins, too. `lease` is this instance's in the journal of queries, where instances share that. `results` is the place where rows of queries are kept, when nothing can be written
     * there.
     */
    readonly waitingFor: Effect.Effect<ReadonlyArray<string>>
    /** All that it may wait for. */
    readonly parts: ReadonlyArray<string>
    /**
     * Whether queries can run now on an engine, give or take a second: the pool that they run on has a connection that answers, or
     * lends all it has. What is submitted in that second is taken in and fails: asking the database for
     * each submission would cost as much as most queries, and would tell no more about the moment after.
     */
    readonly runsQueries: (engine: Engine) => Effect.Effect<boolean>
    /** The engines that cannot be used now, where there is another one that can. */
    readonly enginesAway: Effect.Effect<ReadonlyArray<string>>
  }
>()("holdfast/server/Readiness") {}

/** The user that the service makes itself. */
const demo = "demo"

/** In which order an answer names what is being waited for. */
const order = ["tables", "sessions", "users", "lease", "results", "queries"]

/** Whose failures are looked up to see whether they can be: without anybody nothing would be asked for. */
const nobody = { key: "", most: 1 }

/**
 * Prepares the databases and keeps an eye on them, and on the `Engines` and the `QueryResults` in context, where queries run on
 * these.
 */
export const make = Effect.fnUntraced(function* (settings: Settings, databases: Databases) {
  const store = yield* SessionStore
  const failures = yield* FailureCounts
  const users = yield* Users
  const engines = Option.getOrElse(yield* Effect.serviceOption(Engines), () => new Map<string, Engine>())
  const results = yield* Effect.serviceOption(QueryResults)
  const isLeased = yield* SharedQueries.leased
  const prepared = yield* Deferred.make<void>()
  const done = yield* Deferred.make<void>()

  /** Ends the sessions that began with an old password, or of users who were removed, also where the process that was about to has died. */
  const pay = Effect.flatMap(users.debts, (debts) =>
    Effect.forEach(debts, (debt) => Effect.andThen(store.revokeAll(debt.name), users.paid(debt)), { discard: true })
  )
  const prepare = Effect.gen(function* () {
    yield* SessionStores.migrate(settings, databases)
    yield* UsersMigrations.migrate(databases.own)
    yield* FunctionServices.migrate(settings, databases)
    yield* SharedQueries.migrate(settings, databases)
    if (Option.isSome(databases.demo))
      yield* users.ensure({ name: demo, operator: true, password: databases.demo.value })
    // Before anybody is told the new password, where the sessions can be reached.
    const isLeft = yield* Effect.isFailure(pay)
    yield* Deferred.succeed(prepared, undefined)
    if (isLeft) yield* Effect.retry(pay, Schedule.spaced("1 second"))
    yield* Deferred.succeed(done, undefined)
  })
  // Why a server cannot be used is in the log of outages. What is left is nobody's but the service's own.
  const tell = (cause: Cause.Cause<unknown>) =>
    Cause.hasDies(cause)
      ? LogEvent.error({ event: "tables.failed" }, "The service cannot prepare its databases", cause)
      : LogEvent.debug({ event: "tables.failed" }, "The service cannot prepare its databases", cause)
  yield* prepare.pipe(
    Effect.sandbox,
    Effect.tapError(tell),
    Effect.retry(Schedule.spaced("1 second")),
    // A command beside the service may die as well.
    Effect.andThen(Effect.repeat(Effect.ignore(pay), Schedule.spaced("30 seconds"))),
    Effect.forkScoped
  )

  const succeeds = <E>(effect: Effect.Effect<unknown, E>, within: Duration.Input = "3 seconds") =>
    Effect.isSuccess(Effect.timeout(effect, within))
  const check = <E>(name: string, effect: Effect.Effect<unknown, E>) =>
    Effect.map(succeeds(effect), (isThere) => (isThere ? [] : [name]))
  const away = Effect.map(
    Effect.forEach(engines, ([name, { isReady }]) => Effect.map(isReady, (is) => (is ? [] : [name])), {
      concurrency: "unbounded"
    }),
    (names) => names.flat()
  )
  // What this process knows by itself is not remembered: what waits for a start would wait a second longer than it takes.
  const own = Effect.map(Deferred.isDone(done), (isDone) => [
    ...(isDone ? [] : ["tables"]),
    ...(engines.size === 0 || isLeased() ? [] : ["lease"])
  ])
  const others = yield* onceASecond(
    Effect.map(
      Effect.all(
        [
          check("sessions", Effect.andThen(store.ping, failures.wait([nobody]))),
          // On the connections that logins use.
          Option.isNone(settings.redisUrl) ? Effect.succeed([]) : check("users", users.isOperator(demo)),
          Option.match(results, { onNone: () => Effect.succeed([]), onSome: ({ ready }) => check("results", ready) }),
          // One engine that is away must not stop what runs on another.
          Effect.map(away, ({ length }) => (length > 0 && length === engines.size ? ["queries"] : []))
        ],
        { concurrency: "unbounded" }
      ),
      (missing) => missing.flat()
    )
  )
  // The others are asked first: that can take seconds, in which the tables can come.
  const waitingFor = Effect.flatMap(others, (missing) =>
    Effect.map(own, (mine) => order.filter((name) => mine.includes(name) || missing.includes(name)))
  )

  return Readiness.of({
    prepared: Deferred.await(prepared),
    waitingFor,
    parts: [
      "tables",
      "sessions",
      ...(Option.isSome(settings.redisUrl) ? ["users"] : []),
      ...(Option.isSome(results) ? ["results"] : []),
      ...(engines.size > 0 ? ["queries"] : [])
    ],
    runsQueries: ({ isReady }) => isReady,
    enginesAway: away
  })
})

export const layer = (
  settings: Settings,
  databases: Databases
): Layer.Layer<Readiness, never, FailureCounts | SessionStore | Users> =>
  Layer.effect(Readiness, make(settings, databases))
