/**
 * A statement of a `SqlQueryDriver` from its transaction's begin to its end, and what ends it before.
 *
 * ```
 * prepare ── begin ── run ──────────── commit sent ── done      the query has succeeded
 *                      │ interrupted, failed
 *                      └── cancel ── over ── rollback            nothing was written, or nobody knows
 * ```
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { Connection } from "effect/sql/SqlConnection"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import type { Execution, RowSink, Summary } from "../../query/QueryDriver.ts"
import { andWritten, type QueryError, type Written } from "../../query/QueryError.ts"
import type { Output, Transaction } from "../SqlQueryDriver.ts"
import * as SqlErrors from "./SqlErrors.ts"

/** What a statement runs with. */
export interface Means {
  readonly connection: Connection
  readonly transaction: Transaction
  /** Ends what runs, from elsewhere. */
  readonly cancel: Effect.Effect<void, SqlError> | undefined
  /** Ends the connection, and what runs with it. */
  readonly kill: Effect.Effect<void> | undefined
  readonly reason: () => QueryError | undefined
  readonly retire: Effect.Effect<void>
  readonly failureOf: (error: SqlError) => SqlErrors.Failure
  readonly isUndone: (sql: string) => boolean
}

/** What is to run. */
export interface Work {
  readonly sql: string
  readonly prepare: Effect.Effect<void, SqlError | QueryError>
  readonly run: (output: Output) => Effect.Effect<Summary, SqlError | QueryError>
}

/** How long a server has to confirm a cancel, and to answer what costs it nothing, before its connection is closed. */
const patience = Duration.seconds(3)

/** A cancel that arrives before the statement hits nothing, and is said again. */
const again = Duration.millis(50)

/** How long a commit may take: it may have much to write. */
const commitPatience = Duration.seconds(30)

/** Whether a fiber ended in time. */
const endsWithin = <A, E>(fiber: Fiber.Fiber<A, E>, limit: Duration.Duration) =>
  Effect.map(Effect.timeoutOption(Effect.interruptible(Fiber.await(fiber)), limit), Option.isSome)

/** Runs it to the end of what the server says. */
export const execute = (
  { cancel, connection, failureOf, isUndone, kill, reason, retire, transaction }: Means,
  { prepare, run, sql }: Work,
  sink: RowSink,
  { onDone, onGivenUp }: Execution
): Effect.Effect<Summary, QueryError> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const abandoned = yield* Deferred.make<void>()
      let isAbandoned = false
      let areRowsLost = false
      let refusal: QueryError | undefined
      let hasBegun = false
      let ending: Fiber.Fiber<void> | undefined

      /** Waits for an answer; where none comes, the connection is closed, which ends the wait. */
      const within = <A, E>(wait: Effect.Effect<A, E>, limit: Duration.Duration) =>
        kill === undefined
          ? wait
          : Effect.flatMap(Effect.forkDetach(wait, { startImmediately: true, uninterruptible: true }), (fiber) =>
              Effect.flatMap(endsWithin(fiber, limit), (isOver) =>
                isOver ? Fiber.join(fiber) : Effect.andThen(kill, Fiber.join(fiber))
              )
            )

      /** Makes the statement end. Nothing of it is left to arrive when it returns. */
      const endOf = (fiber: Fiber.Fiber<unknown, unknown>) => {
        if (cancel === undefined) return Effect.asVoid(Fiber.await(fiber))
        const round: Effect.Effect<boolean> = Effect.andThen(Effect.ignore(cancel), endsWithin(fiber, again))
        const rounds = Effect.repeat(round, { until: (isOver) => isOver })
        return Effect.asVoid(within(rounds, patience)).pipe(Effect.andThen(Fiber.await(fiber)), Effect.asVoid)
      }
      /** From the first moment on in which nobody wants the statement any more. */
      const abandon = Effect.suspend(() => {
        isAbandoned = true
        Deferred.doneUnsafe(abandoned, Exit.void)
        if (ending !== undefined) return Effect.void
        return Effect.map(Effect.forkDetach(endOf(fiber), { uninterruptible: true }), (begun) => {
          ending = begun
        })
      })

      // Rows that nobody takes any more must not keep the statement from its end.
      const taken = (take: Effect.Effect<void, QueryError>) =>
        Effect.suspend(() => {
          areRowsLost ||= isAbandoned
          if (isAbandoned) return Effect.void
          return Effect.raceFirst(
            Effect.interruptible(take),
            Effect.andThen(
              Effect.interruptible(Deferred.await(abandoned)),
              Effect.sync(() => {
                areRowsLost = true
              })
            )
          ).pipe(
            Effect.catch((error) =>
              Effect.suspend(() => {
                refusal ??= error
                return abandon
              })
            )
          )
        })
      const output: Output = {
        columns: (columns) => taken(sink.columns(columns)),
        rows: (rows) => taken(sink.rows(rows))
      }
      const orGivenUp = <A, E>(next: Effect.Effect<A, E>) =>
        Effect.suspend((): Effect.Effect<A, E | QueryError> => (isAbandoned ? Effect.fail(givenUp) : next))
      const statement = prepare.pipe(
        Effect.andThen(
          orGivenUp(
            Effect.suspend(() => {
              hasBegun = true
              return transaction.begin(connection)
            })
          )
        ),
        Effect.andThen(orGivenUp(Effect.suspend(() => run(output))))
      )
      const fiber = yield* Effect.forkDetach(statement, { uninterruptible: true })

      /** What the statement has written when it is not committed. */
      const undo: Effect.Effect<Written | undefined> = Effect.suspend(() =>
        hasBegun
          ? within(transaction.rollback(connection), patience).pipe(
              Effect.map((isAllUndone) => (isAllUndone && isUndone(sql) ? undefined : ("unknown" as const))),
              Effect.catch(() => Effect.as(retire, "unknown" as const))
            )
          : Effect.as(retire, undefined)
      )
      const outcomeOf = (error: SqlError | QueryError, written: Written | undefined) => {
        if (!isSqlError(error)) return written === undefined ? error : andWritten(error, written)
        const failure = failureOf(error)
        const left = failure.isRefused === true ? undefined : written
        return (left === undefined ? reason() : undefined) ?? SqlErrors.fromFailure(failure, left)
      }
      /** What cannot be undone and was done by then has been done; of rows that were lost nobody knows. */
      const tellGivenUp = (written: Written | undefined) =>
        Effect.map(Fiber.await(fiber), (exit) => {
          if (written === undefined) return
          if (Exit.isFailure(exit) || isUndone(sql)) return onGivenUp(written)
          return areRowsLost ? onGivenUp("committed") : onDone(Exit.succeed(exit.value))
        })

      const exit = yield* restore(Fiber.await(fiber)).pipe(
        Effect.onInterrupt(() =>
          abandon.pipe(
            Effect.andThen(Effect.suspend(() => (ending === undefined ? Effect.void : Fiber.await(ending)))),
            Effect.andThen(undo),
            Effect.flatMap(tellGivenUp)
          )
        )
      )
      if (ending !== undefined) yield* Fiber.await(ending)
      if (refusal !== undefined || Exit.isFailure(exit)) {
        const written = yield* undo
        if (refusal !== undefined) return yield* Effect.fail(outcomeOf(refusal, written))
        return yield* Effect.mapError(exit, (error) => outcomeOf(error, written))
      }
      const committed = yield* Effect.result(within(transaction.commit(connection), commitPatience))
      if (Result.isFailure(committed)) {
        const failure = failureOf(committed.failure)
        // What was refused is undone; of what was not answered nobody knows.
        const written = failure.isLost === true ? ("unknown" as const) : yield* undo
        const error = written === undefined ? reason() : undefined
        return yield* Effect.fail(error ?? SqlErrors.fromFailure(failure, written))
      }
      onDone(Exit.succeed(exit.value))
      return exit.value
    })
  )

const givenUp = SqlErrors.failed("The statement was given up before it was sent.")
