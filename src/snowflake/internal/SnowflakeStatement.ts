/**
 * One statement on Snowflake, from its submission until the server has said that it is over.
 *
 * The fiber that submits it belongs to the driver and not to the query: a query that is interrupted just then still learns the
 * handle, and can cancel. So does the fiber that ends a statement, which goes on when the query has waited for long enough; until it
 * is done the statement stands in the ledger as an `unconfirmed statement`.
 *
 * ```
 * submitted (request id) ── handle known ── polled ── over: succeeded | failed | gone
 *        └── interrupted: cancelled, asked, cancelled again, ended by SYSTEM$CANCEL_QUERY ──┘
 * ```
 */
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as Ledger from "../../lifetime/Ledger.ts"
import type { End } from "./SnowflakeAnswers.ts"
import * as SnowflakeApi from "./SnowflakeApi.ts"

/** What all statements of a driver have in common. */
export interface Ground {
  readonly api: SnowflakeApi.SnowflakeApi
  /** Of the driver. */
  readonly scope: Scope.Scope
  /** Between two looks at a statement that runs, in milliseconds: at first, and at most. */
  readonly firstPollMillis: number
  readonly longestPollMillis: number
  /** For how long in a row calls may fail before a statement is given up. */
  readonly outageLimit: Duration.Duration
  /** How long one call about the end of a statement may take. */
  readonly cancelCallLimit: Duration.Duration
  /** How long a query waits until the server has said that its statement is over. */
  readonly cancelLimit: Duration.Duration
}

/** A statement as far as it is known. */
export interface Running {
  readonly query: string
  handle: string | undefined
  /** What the server said when it was over. */
  end: End | undefined
  /** Whether the server may have begun it. */
  mayHaveArrived: boolean
  /** Whether a call that submits it is under way. */
  isSending: boolean
  /** Nobody wants it any more: what has certainly not arrived is not sent again. */
  isUnwanted: boolean
}

const running = (query: string, handle: string | undefined): Running => ({
  query,
  handle,
  end: undefined,
  mayHaveArrived: handle !== undefined,
  isSending: false,
  isUnwanted: false
})

/** A statement that somebody submitted earlier. */
export const known = (handle: string): Running => running(handle, handle)

/** A statement under way. */
export interface Submitted {
  readonly statement: Running
  /** Done when the handle, or the end, is known, or when there is no hope of it. */
  readonly submitted: Deferred.Deferred<void, SnowflakeApi.CallFailed>
}

const already = (statement: Running): Submitted => {
  const submitted = Deferred.makeUnsafe<void, SnowflakeApi.CallFailed>()
  Deferred.doneUnsafe(submitted, Effect.void)
  return { statement, submitted }
}

export const attached = (handle: string): Submitted => already(known(handle))

/** Begins to submit a statement. However often that takes, it runs once: it is known to the server by the id of the request. */
export const submit = (
  { api, outageLimit, scope }: Ground,
  query: string,
  requestId: string,
  submission: SnowflakeApi.Submission,
  onHandle: (handle: string) => Effect.Effect<void>
): Effect.Effect<Submitted> =>
  Effect.suspend(() => {
    const statement = running(query, undefined)
    const submitted = Deferred.makeUnsafe<void, SnowflakeApi.CallFailed>()
    const once = Effect.suspend(() => {
      if (statement.isUnwanted && !statement.mayHaveArrived) return Effect.fail(unwanted)
      statement.isSending = true
      return Effect.onExit(api.submit(requestId, submission), (exit) =>
        Effect.sync(() => {
          statement.isSending = false
          statement.mayHaveArrived ||= Exit.isSuccess(exit) || Exit.hasInterrupts(exit)
        })
      )
    })
    const sending = SnowflakeApi.persistently(once, outageLimit, (failure) => {
      statement.mayHaveArrived ||= failure.mayHaveArrived
      return statement.mayHaveArrived || !statement.isUnwanted
    }).pipe(
      Effect.tapError((failure) =>
        Effect.sync(() => {
          statement.mayHaveArrived ||= failure.mayHaveArrived
        })
      ),
      Effect.flatMap((answer) => {
        if (answer._tag === "Pending") {
          if (answer.handle === undefined) return Effect.fail(noHandle)
          statement.handle = answer.handle
          return onHandle(answer.handle)
        }
        statement.end = answer
        if (answer._tag === "Finished") statement.handle = answer.result.statementHandle ?? undefined
        return statement.handle === undefined ? Effect.void : onHandle(statement.handle)
      })
    )
    return Effect.as(Effect.forkIn(Deferred.into(sending, submitted), scope, { startImmediately: true }), {
      statement,
      submitted
    })
  })

/** Taken in, and not to be found again. */
export const noHandle = new SnowflakeApi.CallFailed({
  problem: "Snowflake took the statement in without a handle, so that nothing can be learnt about it.",
  mayPass: false,
  mayHaveArrived: true,
  retryAfterMillis: 0
})

const unwanted = new SnowflakeApi.CallFailed({
  problem: "The statement was given up before it was sent.",
  mayPass: false,
  mayHaveArrived: false,
  retryAfterMillis: 0
})

/** Waits until the server has said that the statement is over. Interrupted, it waits no more, and nothing else. */
export const follow = (
  { api, firstPollMillis, longestPollMillis, outageLimit }: Ground,
  { statement, submitted }: Submitted
): Effect.Effect<End, SnowflakeApi.CallFailed> => {
  const look = (handle: string, looks: number): Effect.Effect<End, SnowflakeApi.CallFailed> =>
    Effect.sleep(SnowflakeApi.backoffMillis(looks / 2, firstPollMillis, longestPollMillis)).pipe(
      Effect.andThen(SnowflakeApi.persistently(api.status(handle), outageLimit)),
      Effect.flatMap((answer) => {
        if (answer._tag === "Pending") return look(handle, looks + 1)
        statement.end = answer
        return Effect.succeed(answer)
      })
    )
  return Effect.andThen(
    Deferred.await(submitted),
    Effect.suspend(() => {
      const { end, handle } = statement
      if (end !== undefined) return Effect.succeed(end)
      return handle === undefined ? Effect.fail(noHandle) : look(handle, 0)
    })
  )
}

/** How often a statement that does not end is cancelled again, in milliseconds: at first, and at most. */
const firstCancelMillis = 500
const longestCancelMillis = 30_000

/** So many cancels come at that pace. */
const fastCancels = 4

const inSql = (handle: string): SnowflakeApi.Submission => ({
  statement: `select system$cancel_query('${handle}')`,
  timeout: 60,
  parameters: {}
})

/** Cancels and asks until the server says that the statement is over. */
const ending = ({ api, cancelCallLimit }: Ground, { statement, submitted }: Submitted): Effect.Effect<void> => {
  const bounded = <A>(call: Effect.Effect<A, SnowflakeApi.CallFailed>) =>
    Effect.timeoutOption(Effect.option(call), cancelCallLimit).pipe(Effect.map(Option.flatten))
  const look = (handle: string) =>
    Effect.map(bounded(api.status(handle)), (answer) => {
      if (Option.isSome(answer) && answer.value._tag !== "Pending") statement.end = answer.value
      return statement.end !== undefined
    })
  /** The statement is over a moment after its cancel: it is looked at more and more rarely until the next one is due. */
  const watch = (handle: string, untilNext: number, wait: number): Effect.Effect<boolean> =>
    Effect.flatMap(look(handle), (isOver) =>
      isOver || untilNext <= 0
        ? Effect.succeed(isOver)
        : Effect.andThen(Effect.sleep(Math.min(wait, untilNext)), watch(handle, untilNext - wait, wait * 2))
    )
  const round = (handle: string, cancels: number): Effect.Effect<void> => {
    // The call itself may be what does not work: then, and from the second time on, it is said in SQL, too.
    const cancel = Effect.flatMap(bounded(api.cancel(handle)), (answered) =>
      Option.isSome(answered) && cancels === 0 ? Effect.void : bounded(api.submit(randomUUID(), inSql(handle)))
    )
    const pause = Math.min(firstCancelMillis * 2 ** Math.max(0, cancels - fastCancels), longestCancelMillis)
    return cancel.pipe(
      Effect.andThen(watch(handle, pause, 10)),
      Effect.flatMap((isOver) => (isOver ? Effect.void : round(handle, cancels + 1)))
    )
  }
  return Effect.andThen(
    Effect.exit(Deferred.await(submitted)),
    Effect.suspend(() => {
      const { end, handle, mayHaveArrived } = statement
      if (end !== undefined) return Effect.void
      if (handle !== undefined) return round(handle, 0)
      return mayHaveArrived ? abandoned(statement) : Effect.void
    })
  )
}

const abandoned = ({ handle, query }: Running) =>
  LogEvent.warning(
    { event: "snowflake.unconfirmed", query },
    handle === undefined
      ? `Snowflake did not say whether it has the statement of ${query}. Look for this query tag in the query history`
      : `Snowflake did not say that statement ${handle} of ${query} is over. End it with SnowflakeStatements.end`
  )

/**
 * Ends a statement, and returns when the server has said that it is over, or after `cancelLimit`; then it goes on in the background.
 */
export const end = (ground: Ground, submitted: Submitted): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { statement } = submitted
    statement.isUnwanted = true
    if (statement.end !== undefined || !(statement.isSending || statement.mayHaveArrived)) return Effect.void
    const work = ending(ground, submitted).pipe(
      Effect.onInterrupt(() => abandoned(statement)),
      Ledger.during({
        kind: "unconfirmed statement",
        id: statement.query,
        attributes: statement.handle === undefined ? {} : { handle: statement.handle }
      })
    )
    return Effect.flatMap(Effect.forkIn(work, ground.scope, { startImmediately: true }), (fiber) =>
      Effect.asVoid(Effect.timeoutOption(Fiber.await(fiber), ground.cancelLimit))
    )
  })

/**
 * Ends a statement of somebody who is gone, and tells whether the server has said that it is over, within `cancelLimit`. Nothing goes
 * on in the background.
 */
export const endHere = (ground: Ground, handle: string): Effect.Effect<boolean> =>
  Effect.suspend(() => {
    const submitted = attached(handle)
    return Effect.map(
      Effect.timeoutOption(ending(ground, submitted), ground.cancelLimit),
      () => !isOpen(submitted.statement)
    )
  })

/** Whether the server may know the statement, and has not said that it is over. */
export const isOpen = ({ end, mayHaveArrived }: Running): boolean => mayHaveArrived && end === undefined
