/**
 * Functions addressed by id: scripts that are sent once and executed many times, from any instance.
 *
 * A function lives in the store until it is ended or its time is up. An execution runs until it is done, is cancelled, meets its
 * deadline, or its session, its function or the engine ends; its record stays readable to the principal until the retention is over.
 * Whatever ends it, the order is the same: the script is asked to stop, has stopped, its sandbox is released, and only then is the
 * outcome known to anybody.
 *
 * ```
 * engine ──┬── record of an execution ····· until its retention is over
 *          └── function ── execution ── sandbox
 * session ────────┘ ends the execution, not its record
 * ```
 *
 * **Details**
 *
 * At most `maxRunning` executions run, of each principal at most `maxRunningPerPrincipal`. The next one is of the principal with the
 * fewest, among these round robin, and `reservedRunning` places are for principals who have nothing running. When `maxWaiting` wait,
 * or `maxWaitingPerPrincipal` of one, one more is rejected at once. Reading a script, when a function is created, takes such a place,
 * too.
 *
 * Functions are shared by all instances on the same store; an engine knows the executions of its own process. What is asked about
 * another principal's function or execution is answered as if there were none (law F5).
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Deadlines from "../lifetime/Deadlines.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import type * as Lifetime from "../lifetime/Lifetime.ts"
import type { ListOptions } from "../lifetime/internal/Entries.ts"
import * as EntriesClosing from "../lifetime/internal/EntriesClosing.ts"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import * as ExecutionId from "./ExecutionId.ts"
import type { ExecutionRecord } from "./ExecutionRecord.ts"
import {
  ExecutionDeadlineExceeded,
  ExecutionNotFound,
  FunctionError,
  FunctionNotFound,
  FunctionsUnavailable,
  LanguageUnknown,
  SandboxLost
} from "./FunctionError.ts"
import * as FunctionId from "./FunctionId.ts"
import * as FunctionLimits from "./internal/FunctionLimits.ts"
import type { FunctionRecord } from "./FunctionRecord.ts"
import { FunctionRuntime, type Script } from "./FunctionRuntime.ts"
import { FunctionStore } from "./FunctionStore.ts"
import type * as Store from "./FunctionStore.ts"
import * as ExecutionAdmission from "./internal/ExecutionAdmission.ts"
import { type Entry, Executions, type Listing, sizeOfReason } from "./internal/ExecutionEntry.ts"
import * as ExecutionJob from "./internal/ExecutionJob.ts"
import * as ExecutionMetrics from "./internal/ExecutionMetrics.ts"
import * as FunctionTexts from "./internal/FunctionTexts.ts"
import * as FunctionUses from "./internal/FunctionUses.ts"

export type { Listing, ListOptions }
export type { Options } from "./internal/FunctionLimits.ts"

/** A function to be. */
export interface Creation {
  /** Who may see, execute and end it. */
  readonly principal: string
  /** One of the runtime's. */
  readonly language: string
  readonly script: string
  /** A JSON text, which each execution gets beside its parameters. Default: `null`. */
  readonly context?: string | undefined
  readonly title?: string | undefined
}

/** An execution to be. */
export interface Submission {
  /** Who may see and cancel it; fairness and limits are between principals. */
  readonly principal: string
  readonly function: FunctionId.FunctionId
  /** A JSON text. Default: `null`. */
  readonly params?: string | undefined
  /** Ends the execution when it ends: the session that asked for it. */
  readonly owner?: Lifetime.Lifetime | undefined
  /** The public id of that session. */
  readonly session?: string | undefined
  /** From now until the outcome, waiting included; at most the engine's `maxDeadline`. Default: the engine's. */
  readonly deadline?: Duration.Input | undefined
}

type Failed<A> = Effect.Effect<A, FunctionError>

export class Functions extends Context.Service<
  Functions,
  {
    readonly languages: ReadonlyArray<string>
    /** Reads the script and stores the function: every instance finds it from then on. */
    readonly create: (creation: Creation) => Failed<FunctionRecord>
    readonly find: (principal: string, id: FunctionId.FunctionId) => Failed<FunctionRecord>
    readonly list: (principal: string, options?: Store.ListOptions) => Failed<Store.Listing>
    /** Ends a function. What runs of it here is over when this returns; on other instances it is within two seconds. */
    readonly end: (principal: string, id: FunctionId.FunctionId) => Failed<void>
    /** Takes an execution in and returns its record at once. */
    readonly execute: (submission: Submission) => Failed<ExecutionRecord>
    readonly status: (principal: string, id: ExecutionId.ExecutionId) => Failed<ExecutionRecord>
    /** Waits for the outcome. */
    readonly await: (principal: string, id: ExecutionId.ExecutionId) => Failed<ExecutionRecord>
    /** Asks for the end and waits for it. Of an execution that is over it changes nothing. */
    readonly cancel: (principal: string, id: ExecutionId.ExecutionId) => Failed<ExecutionRecord>
    readonly executions: (principal: string, options?: ListOptions) => Effect.Effect<Listing>
    /** Removes what is past its retention, here and in the store. Runs by itself every second. */
    readonly prune: Effect.Effect<void>
  }
>()("holdfast/function/Functions") {}

const fail = (reason: FunctionError["reason"]) => Effect.fail(new FunctionError({ reason }))

const shuttingDown = new FunctionsUnavailable({ problem: "Functions are shutting down. Try again later." })

/** How many records of functions are removed at a time. */
const pruneLimit = 1000

const reasonOf = (cause: Cause.Cause<FunctionError>): FunctionError["reason"] => {
  const error = Cause.findErrorOption(cause)
  return Option.isSome(error)
    ? error.value.reason
    : new SandboxLost({ problem: "It failed for an internal reason, which the log tells." })
}

/** Makes an engine that closes with the current scope. */
export const make = Effect.fnUntraced(function* (options: FunctionLimits.Options = {}) {
  const limits = FunctionLimits.make(options)
  const usualDeadlines = yield* Deadlines.make(limits.deadline)
  const context = yield* Effect.context<never>()
  const ledger = yield* Ledger.Ledger
  const runtime = yield* FunctionRuntime
  const store = yield* FunctionStore
  const clock = yield* Clock.Clock
  const admission = yield* ExecutionAdmission.make(limits.admission)
  const metrics = yield* ExecutionMetrics.make
  const steady = () => SteadyClock.millis(clock)
  const entries = new Executions(limits.kept, steady())
  // Nobody's child: closing ends what is in it, and an execution that does not end holds up nobody.
  const running = Scope.makeUnsafe("parallel")
  const uses = FunctionUses.make(running)
  const freeing = Semaphore.makeUnsafe(1)
  let closing = false
  const now = () => DateTime.makeUnsafe(clock.currentTimeMillisUnsafe())

  /** Reads a script in a sandbox: also a parser can be kept busy. */
  const check = Effect.fnUntraced(function* (principal: string, script: Script) {
    const place = admission.enter(principal, script.script.length * 2)
    if ("rejection" in place) {
      admission.count(metrics, place.rejection)
      return yield* Effect.fail(place.rejection)
    }
    const granted = Effect.callback<void, FunctionError>((resume) => place.told(resume))
    const checked = Effect.flatMap(runtime.open(script.language), (sandbox) => sandbox.check(script))
    yield* Effect.scoped(Effect.andThen(granted, checked)).pipe(
      Effect.ensuring(Effect.sync(() => place.leave())),
      Effect.timeoutOrElse({
        duration: limits.deadline,
        orElse: () => fail(new ExecutionDeadlineExceeded({ afterMillis: Duration.toMillis(limits.deadline) }))
      })
    )
  })

  const create = Effect.fn("Functions.create")(function* (creation: Creation) {
    if (closing) return yield* fail(shuttingDown)
    const { context = "null", language, principal, script, title } = creation
    const { languages } = runtime
    if (!languages.includes(language)) return yield* fail(new LanguageUnknown({ language, languages }))
    yield* FunctionTexts.check({ script, context, title: title ?? "" }, limits)
    yield* check(principal, { language, script })
    return yield* store.create(
      { id: FunctionId.make(), principal, language, title: title ?? null, script, context, ...limits.timeouts },
      limits.room
    )
  })

  const settle = (entry: Entry, outcome: Exit.Exit<string, FunctionError>): void => {
    const error = Exit.isSuccess(outcome) ? null : reasonOf(outcome.cause)
    const result = Exit.isSuccess(outcome) ? outcome.value : null
    // Before it is told, so that nobody sees one too many.
    entries.ended(entry, entry.size + (result?.length ?? 0) + sizeOfReason(error), now())
    const spans = entry.ended(steady())
    const ms = spans.ran === undefined ? null : Math.round(spans.ran * 1000) / 1000
    if (error === null) entry.step("Succeeded", now(), { result, ms })
    else {
      const isCanceled = entry.record.state === "Canceling" && isCancel(error)
      entry.step(isCanceled ? "Canceled" : "Failed", now(), { error, ms })
    }
    if (spans.held !== undefined) admission.took(spans.held)
    metrics.ended(entry.record, spans)
  }

  const start = (submission: Submission, execution: ExecutionJob.Execution): Effect.Effect<Lifetime.Lifetime> =>
    Scope.provide(
      ExecutionJob.start(submission, execution, { runtime, limits, usualDeadlines, now, steady, settle }, context),
      running
    )

  const enter = (submission: Submission, called: FunctionRecord): Failed<ExecutionRecord> => {
    if (closing) return fail(shuttingDown)
    const { deadline, owner, params = "", principal, session } = submission
    const bytes = 2 * (called.script.length + called.context.length + params.length)
    const place = admission.enter(principal, bytes)
    if ("rejection" in place) {
      admission.count(metrics, place.rejection)
      return Effect.fail(place.rejection)
    }
    metrics.submitted()
    const steadyAt = steady()
    const entry = entries.add(
      {
        id: ExecutionId.make(),
        function: called.id,
        principal,
        session: session ?? null,
        at: now(),
        steadyAt,
        retention: limits.retention
      },
      steadyAt
    )
    const asked = deadline === undefined ? undefined : Duration.fromInputUnsafe(deadline)
    return Effect.flatMap(uses.enter(called.id, owner), (use) =>
      Effect.map(start(submission, { entry, use, place, asked, called }), (lifetime) => {
        entry.begun(lifetime)
        return entry.record
      })
    )
  }

  const execute = Effect.fnUntraced(function* (submission: Submission) {
    if (closing) return yield* fail(shuttingDown)
    yield* FunctionTexts.bounded("params", submission.params ?? "", limits.paramsBytes)
    const called = yield* store.use(submission.principal, submission.function)
    return yield* Effect.uninterruptible(Effect.suspend(() => enter(submission, called)))
  })

  const find = (principal: string, id: ExecutionId.ExecutionId): Failed<Entry> =>
    Effect.suspend(() => {
      const entry = entries.find(principal, id)
      return entry === undefined ? fail(new ExecutionNotFound({})) : Effect.succeed(entry)
    })

  /** The record with the outcome, or a failure where it does not end although the engine closed. */
  const outcome = (entry: Entry): Failed<ExecutionRecord> =>
    Effect.flatMap(
      entry.when(() => (entry.isOver ? entry.record : entries.has(entry) ? undefined : null)),
      (record) => (record === null ? fail(shuttingDown) : Effect.succeed(record))
    )

  const end = Effect.fn("Functions.end")(function* (principal: string, id: FunctionId.FunctionId) {
    const wasThere = yield* store.end(principal, id)
    if (!wasThere) return yield* fail(new FunctionNotFound({}))
    yield* uses.end(id)
  })

  const prune = Effect.suspend(() =>
    Effect.forEach(entries.due(steady()), (entry) => (closing ? Effect.void : entries.forget(entry, now())), {
      discard: true
    })
  ).pipe(freeing.withPermit)

  /** Functions that were ended elsewhere end here, too. */
  const follow = Effect.suspend(() => {
    const ids = uses.ids()
    return ids.length === 0
      ? Effect.void
      : Effect.flatMap(store.endedOf(ids), (ended) =>
          Effect.forEach(ended, (id) => Effect.forkDetach(uses.end(id)), { discard: true })
        )
  }).pipe(Effect.ignore)

  const close = Effect.suspend(() => {
    closing = true
    const { closeTimeout, drain } = limits
    return EntriesClosing.close(entries, { drain, closeTimeout, now, steady, ledger, freeing })
  })

  const sample = Effect.sync(() => metrics.sample(entries.all().map(({ record }) => record.state)))
  const second = Schedule.spaced(Duration.seconds(1))
  yield* Effect.forkScoped(Effect.repeat(Effect.andThen(prune, sample), second))
  yield* Effect.forkScoped(Effect.repeat(follow, second))
  yield* Effect.forkScoped(Effect.repeat(Effect.ignore(store.prune(pruneLimit)), Schedule.spaced(Duration.minutes(1))))
  // After the pruning was begun, which is over when nothing is left to prune.
  yield* Effect.addFinalizer(() => close)

  return Functions.of({
    languages: runtime.languages,
    create,
    find: store.find,
    list: store.list,
    end,
    execute,
    status: (principal, id) => Effect.map(find(principal, id), ({ record }) => record),
    await: (principal, id) => Effect.flatMap(find(principal, id), outcome),
    cancel: (principal, id) =>
      Effect.flatMap(find(principal, id), (entry) => Effect.andThen(entry.end(), outcome(entry))),
    executions: (principal, options) => Effect.sync(() => entries.list(principal, options)),
    prune: Effect.andThen(prune, Effect.ignore(store.prune(pruneLimit)))
  })
})

/** Whether the outcome is that somebody, the end of the session or that of the function wanted it over. */
const isCancel = ({ _tag }: FunctionError["reason"]): boolean =>
  _tag === "ExecutionCanceled" || _tag === "SessionEnded" || _tag === "FunctionEnded"

/** An engine over the runtime and the store in context. */
export const layer = (
  options?: FunctionLimits.Options
): Layer.Layer<Functions, never, FunctionRuntime | FunctionStore> => Layer.effect(Functions, make(options))
