/**
 * What a registry does over a journal that several instances share: its own queries are written there before anybody is told of
 * them, and what it does not run itself is looked up there.
 *
 * It lives as long as the registry.
 */
import type * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as FairSemaphore from "../../lifetime/FairSemaphore.ts"
import type * as Lifetime from "../../lifetime/Lifetime.ts"
import { inParallel } from "../../lifetime/internal/Entry.ts"
import { keptReason } from "../../lifetime/internal/KeptText.ts"
import { andWritten, IdempotencyConflict, QueriesUnavailable, QueryError } from "../QueryError.ts"
import type * as QueryJournal from "../QueryJournal.ts"
import type { QueryRecord } from "../QueryRecord.ts"
import type { Execution, Statement } from "../QueryDriver.ts"
import type { Entries } from "./QueryRegistryEntries.ts"
import type { Change, Entry, Sharing as Standing } from "./QueryRegistryEntry.ts"

type Failed<A> = Effect.Effect<A, QueryError>

const fail = (reason: QueryError["reason"]) => Effect.fail(new QueryError({ reason }))

/** What a query came to: where it is not written yet. */
export interface Ending {
  readonly state: "Succeeded" | "Failed" | "Canceled"
  readonly change: Change
}

export type Place = FairSemaphore.Place<QueryError>

/** What the registry does itself. */
export interface Local {
  readonly entries: Entries
  readonly engines: QueryJournal.Registry["engines"]
  readonly keptOfPrincipal: QueryJournal.Registry["keptOfPrincipal"]
  readonly now: () => DateTime.Utc
  readonly isClosing: () => boolean
  /** Starts the query of an entry; it has its place when `place` tells. */
  readonly start: (
    entry: Entry,
    submission: { readonly statement: Statement; readonly owner?: Lifetime.Lifetime | undefined },
    place: Place,
    deadline: Duration.Duration | undefined
  ) => Effect.Effect<Lifetime.Lifetime>
  /** Lists a query of another instance's, and takes a place for it; undefined while there is none. */
  readonly takeIn: (work: QueryJournal.Work) => { readonly entry: Entry; readonly place: Place } | undefined
  /** An outcome is written: it can be told. */
  readonly tell: (entry: Entry, record: QueryRecord) => void
  /** Whether a statement on the engine that was cancelled, and confirmed, has written nothing. */
  readonly undoes: (engine: string) => boolean
}

/** A waiting query that finds no place yet is tried again so often. */
const placeAgain = Duration.millis(200)

const gone = new QueriesUnavailable({ problem: "The query is another instance's by now. Look at it again." })

/** Over a shared journal. */
export const make = Effect.fnUntraced(function* (journal: QueryJournal.Shared, local: Local) {
  const { entries, now, start } = local
  const writing = yield* FiberSet.make<void>()
  const write = yield* FiberSet.runtime(writing)<never>()
  const written = FiberSet.awaitEmpty(writing)

  const forget = (entry: Entry) => entries.forget(entry, now())

  /** Whether another instance may run it, because it has certainly done nothing. */
  const isForOthers = (entry: Entry, sharing: Standing, { change, state }: Ending) =>
    local.isClosing() &&
    !sharing.isCanceled &&
    state === "Canceled" &&
    change.error?._tag === "QueryCanceled" &&
    change.error.written === undefined &&
    (sharing.isWaiting || local.undoes(entry.record.engine))

  const handOver = (entry: Entry, sharing: Standing, claim: QueryJournal.Claim) => {
    const [first, ...rest] = entry.record.transitions
    const before = rest.filter(({ state }) => state !== "Canceling")
    const transitions = [
      first,
      ...(sharing.isWaiting ? before : [...before, { state: "Queued" as const, at: now() }])
    ] as const
    return journal.handOver(claim, {
      ...sharing.work,
      record: { ...entry.record, state: "Queued", transitions }
    })
  }

  /** The rows where others find them; where they cannot be kept, the query has failed. */
  const seal = (entry: Entry, ending: Ending) =>
    ending.state !== "Succeeded" || entry.result?.seal === undefined
      ? Effect.succeed({ ending, rows: undefined })
      : Effect.map(Effect.result(entry.result.seal), (sealed) =>
          Result.isSuccess(sealed)
            ? { ending, rows: sealed.success }
            : {
                ending: {
                  state: "Failed" as const,
                  change: { error: keptReason(andWritten(sealed.failure, "committed").reason) }
                },
                rows: undefined
              }
        )

  /** What is noted for the take-over, until the statement is certainly over. */
  const forgetHandles = ({ record }: Entry, { handles }: Standing, { change }: Ending) => {
    const { error } = change
    const mayRun = error !== undefined && error !== null && "written" in error && error.written === "unknown"
    return handles.length === 0 || mayRun ? Effect.void : Effect.ignore(journal.unregister(record.engine, handles))
  }

  const settling = Effect.fnUntraced(function* (entry: Entry, sharing: Standing, came: Ending) {
    yield* Deferred.await(sharing.entered)
    const { claim } = sharing
    if (claim === undefined) return yield* forget(entry)
    sharing.isEnding = true
    if (isForOthers(entry, sharing, came)) {
      yield* handOver(entry, sharing, claim)
      yield* forget(entry)
      return yield* forgetHandles(entry, sharing, came)
    }
    const { ending, rows } = yield* seal(entry, came)
    const record = entry.after(ending.state, now(), ending.change)
    const isOurs = yield* journal.end(claim, record, rows && { ...rows, attempt: claim.attempt })
    if (!isOurs) return yield* forget(entry)
    sharing.isElsewhere = rows !== undefined || ending.state !== "Succeeded"
    local.tell(entry, record)
    yield* forgetHandles(entry, sharing, came)
  })

  /** Writes an outcome, and tells it then. */
  const settle = (entry: Entry, sharing: Standing, ending: Ending): void => {
    write(settling(entry, sharing, ending))
  }

  /** A query that has its place begins when the journal knows that it does. */
  const gate = (entry: Entry, sharing: Standing): Failed<void> =>
    Effect.flatMap(Deferred.await(sharing.entered), () => {
      const { claim } = sharing
      // Who submits it ends it.
      if (claim === undefined) return Effect.never
      if (!sharing.isWaiting) return Effect.void
      const begun = entry.after("Starting", now())
      return Effect.flatMap(journal.begin(claim, begun), (isOurs) => {
        if (!isOurs) return fail(gone)
        sharing.isWaiting = false
        if (entry.record.state === "Queued") entry.become(begun)
        return Effect.void
      })
    })

  const gated = (entry: Entry, sharing: Standing, place: Place, onGranted: () => void): Place => ({
    leave: () => place.leave(),
    told: (listener) =>
      place.told((news) => {
        onGranted()
        listener(Effect.andThen(news, gate(entry, sharing)))
      })
  })

  const sharingOf = (work: QueryJournal.Work): Standing => ({
    work,
    entered: Deferred.makeUnsafe<void>(),
    claim: undefined,
    handles: [],
    isWaiting: true,
    isCanceled: false,
    isEnding: false,
    isElsewhere: false
  })

  const entersAs = (sharing: Standing, claim: QueryJournal.Claim | undefined) => {
    sharing.claim = claim
    Deferred.doneUnsafe(sharing.entered, Exit.void)
  }

  /** What the submission of a key comes to that was used before. */
  const answer = (
    { digest, id, record }: Extract<QueryJournal.Entered, { _tag: "Known" }>,
    request: { readonly digest: string; readonly submitted: QueryRecord }
  ): Failed<QueryRecord> => {
    if (digest !== request.digest) return fail(new IdempotencyConflict({ id }))
    if (record !== undefined) return Effect.succeed({ ...record, sql: request.submitted.sql })
    // It is past its retention: nothing is left of it but its name.
    const [first] = request.submitted.transitions
    return Effect.succeed({
      ...request.submitted,
      id,
      state: "Expired",
      transitions: [first, { state: "Expired", at: now() }]
    })
  }

  /** Has the query of an entry run, once the journal has taken it in. */
  const submit = Effect.fnUntraced(function* (
    entry: Entry,
    submission: { readonly statement: Statement; readonly owner?: Lifetime.Lifetime | undefined },
    place: Place,
    deadline: Duration.Duration | undefined,
    terms: Omit<QueryJournal.NewQuery, "record" | "statement">
  ) {
    const work = { ...terms, record: entry.record, statement: submission.statement }
    const sharing = sharingOf(work)
    entry.sharing = sharing
    let isGranted = false
    const onGranted = () => {
      isGranted = true
    }
    const lifetime = yield* start(entry, submission, gated(entry, sharing, place, onGranted), deadline)
    entry.begun(lifetime)
    if (isGranted && entry.record.state === "Queued") {
      sharing.isWaiting = false
      entry.step("Starting", now())
    }
    const withdraw = Effect.suspend(() => {
      entersAs(sharing, undefined)
      return Effect.asVoid(lifetime.end())
    })
    const entered = yield* Effect.tapError(journal.enter({ ...work, record: entry.record }), () => withdraw)
    if (entered._tag === "Taken") {
      entersAs(sharing, entered.claim)
      return entry.record
    }
    yield* withdraw
    return yield* answer(entered, { digest: terms.key?.digest ?? "", submitted: work.record })
  })

  const adopt = (claim: QueryJournal.Claim, work: QueryJournal.Work): Effect.Effect<void> =>
    Effect.gen(function* () {
      const find = Effect.sync(() => (local.isClosing() ? null : local.takeIn(work)))
      const found = yield* Effect.repeat(find, {
        until: (found) => found !== undefined,
        schedule: Schedule.spaced(placeAgain)
      })
      // What is left is handed over as it is.
      if (found === undefined || found === null) return
      const { entry, place } = found
      const sharing = sharingOf(work)
      entersAs(sharing, claim)
      entry.sharing = sharing
      const passed = now().epochMilliseconds - work.record.transitions[0].at.epochMilliseconds
      const left = Duration.millis(Math.max(work.deadlineMillis - passed, 1))
      const lifetime = yield* start(
        entry,
        work,
        gated(entry, sharing, place, () => undefined),
        left
      )
      entry.begun(lifetime)
    }).pipe(Effect.uninterruptible)

  const end = (entry: Entry) => {
    if (entry.sharing !== undefined) entry.sharing.isCanceled = true
    return entry.end()
  }
  const live = () => entries.all().filter(({ isOver }) => !isOver)
  const join = journal.join({
    engines: local.engines,
    keptOfPrincipal: local.keptOfPrincipal,
    cancel: (id) => {
      const entry = live().find(({ record }) => record.id === id)
      if (entry !== undefined) write(end(entry))
    },
    adopt,
    lost: Effect.andThen(
      Effect.suspend(() => inParallel(live(), end)),
      written
    )
  })

  /** Those that wait for their place are for others to run, when the registry closes. */
  const handOverWaiting = Effect.suspend(() =>
    inParallel(
      live().filter(({ record }) => record.state === "Queued"),
      (entry) => entry.end()
    )
  )

  return {
    /** To be run once, when the registry is there. */
    join,
    settle,
    submit,
    end,
    handOverWaiting,
    written,
    /** The query of a key that was used before, where there is no place for another one. */
    known: (request: { readonly key: string; readonly digest: string; readonly submitted: QueryRecord }) =>
      Effect.flatMap(journal.keyed(request.submitted.principal, request.key), (entered) =>
        entered?._tag === "Known" ? Effect.asSome(answer(entered, request)) : Effect.succeedNone
      ),
    /** Notes by what the statement of an entry can be ended from elsewhere. */
    handlesOf: (entry: Entry): Execution["onHandle"] => {
      const { sharing } = entry
      return sharing === undefined
        ? undefined
        : (handle) =>
            Effect.suspend(() => {
              // Also where it is not known whether it was noted.
              sharing.handles.push(handle)
              return journal.register(entry.record.engine, handle)
            })
    },
    /** A query came to a state on its way. */
    noted: (entry: Entry): void => {
      const claim = entry.sharing?.claim
      if (claim !== undefined && !local.isClosing()) journal.note(claim, () => entry.record)
    }
  }
})

export type Sharing = Effect.Success<ReturnType<typeof make>>
