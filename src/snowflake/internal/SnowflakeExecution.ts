/**
 * A statement for somebody: submitted, followed, its rows handed over; and what is said of it when it is interrupted.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { Execution, RowSink, Summary } from "../../query/QueryDriver.ts"
import { andWritten, type QueryError, type Written } from "../../query/QueryError.ts"
import { canceled, type End, type Finished } from "./SnowflakeAnswers.ts"
import * as SnowflakeApi from "./SnowflakeApi.ts"
import * as SnowflakeErrors from "./SnowflakeErrors.ts"
import * as SnowflakeRows from "./SnowflakeRows.ts"
import * as SnowflakeSql from "./SnowflakeSql.ts"
import * as SnowflakeStatement from "./SnowflakeStatement.ts"

/** What is known of a statement by its text. Of one that was submitted earlier, nothing is. */
export interface Nature {
  readonly sql: string
  readonly onlyReads: boolean
  readonly isUndone: boolean
}

export const natureOf = (sql: string, isOne: boolean): Nature => ({
  sql,
  onlyReads: isOne && SnowflakeSql.onlyReads(sql),
  isUndone: isOne && SnowflakeSql.isUndone(sql)
})

export const unknown: Nature = { sql: "", onlyReads: false, isUndone: false }

/** The counts of what was written are in `stats`, or in the one row of the result. */
const writes: ReadonlySet<string> = new Set(["INSERT", "UPDATE", "DELETE", "MERGE"])

const summaryOf = ({ sql }: Nature, { result }: Finished): Summary => {
  const command = SnowflakeSql.commandOf(sql)
  const { numRowsDeleted, numRowsInserted, numRowsUpdated } = result.stats ?? {}
  const affected = (numRowsInserted ?? 0) + (numRowsUpdated ?? 0) + (numRowsDeleted ?? 0)
  return { command, rowCount: writes.has(command) ? affected : result.resultSetMetaData.numRows }
}

/** Rows that came with the end of a statement that was being cancelled: for how long they are offered. */
const lastOffer = Duration.seconds(1)

/** Makes an effect interruptible within a region that is not. */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/**
 * Runs a statement that was submitted, or is being submitted, to its end. It is to be called where nothing can be interrupted, from the
 * submission on: an interruption in between would leave the statement to nobody.
 */
export const run = (
  restore: Restore,
  ground: SnowflakeStatement.Ground,
  limit: SnowflakeRows.Limit,
  submitted: SnowflakeStatement.Submitted,
  nature: Nature,
  sink: RowSink,
  { onDone, onGivenUp }: Pick<Execution, "onDone" | "onGivenUp">
): Effect.Effect<Summary, QueryError> => {
  const { statement } = submitted
  const { isUndone, onlyReads } = nature
  const fetch: SnowflakeRows.Fetch = (partition, expectedBytes) =>
    statement.handle === undefined
      ? Effect.die("A statement with partitions has a handle")
      : SnowflakeApi.persistently(ground.api.partition(statement.handle, partition, expectedBytes), ground.outageLimit)

  const done = (finished: Finished) =>
    Effect.sync(() => {
      const summary = summaryOf(nature, finished)
      onDone(Exit.succeed(summary))
      return summary
    })
  /** What it may have written, where the server said that it is over without success, or did not say it. */
  const writtenBy = (end: End | undefined): Written | undefined => {
    if (end === undefined) return SnowflakeStatement.isOpen(statement) ? "unknown" : undefined
    if (end._tag === "Finished") return "committed"
    return end._tag === "Gone" || !isUndone ? "unknown" : undefined
  }
  const errorOf = (end: Exclude<End, Finished>) =>
    end._tag === "Gone" ? SnowflakeErrors.gone : SnowflakeErrors.fromServer(nature.sql, end.status, writtenBy(end))

  const withoutRows = Effect.sync(() => (onlyReads ? onGivenUp("committed") : onDone(SnowflakeErrors.rowsLost)))

  /** The statement succeeded while it was being cancelled: the server's word stands, where its rows can still be had. */
  const lateSuccess = (finished: Finished) => {
    const offer = SnowflakeRows.deliver(finished, sink, fetch, limit)
    const offered = Effect.flatMap(Effect.forkIn(offer, ground.scope), (fiber) =>
      Effect.tap(Effect.timeoutOption(Fiber.await(fiber), lastOffer), () => Effect.sync(() => fiber.interruptUnsafe()))
    )
    return Effect.flatMap(SnowflakeRows.isWhole(finished) ? offered : Effect.succeedNone, (exit) => {
      if (Option.isSome(exit) && Exit.isSuccess(exit.value)) return Effect.asVoid(done(finished))
      return withoutRows
    })
  }

  const deliver = (finished: Finished) => {
    let isBegun = false
    const begin = Effect.sync(() => {
      isBegun = true
    })
    return restore(Effect.andThen(begin, SnowflakeRows.deliver(finished, sink, fetch, limit))).pipe(
      Effect.mapError((error) => (onlyReads ? error : andWritten(error, "committed"))),
      // All of it took effect; of a statement that only reads, nothing is lost that the cancel did not ask for.
      Effect.onInterrupt(() => (isBegun ? withoutRows : lateSuccess(finished))),
      Effect.andThen(done(finished))
    )
  }

  const whatTheServerSaid = Effect.suspend(() => {
    const { end } = statement
    if (end?._tag === "Finished") return lateSuccess(end)
    if (end?._tag === "Failed" && !canceled.has(end.status.code ?? "")) {
      return Effect.sync(() => onDone(Exit.fail(errorOf(end))))
    }
    const written = writtenBy(end)
    return written === undefined ? Effect.void : Effect.sync(() => onGivenUp(written))
  })

  const outage = (failure: SnowflakeApi.CallFailed) => SnowflakeErrors.fromCall(failure, writtenBy(statement.end))

  return restore(SnowflakeStatement.follow(ground, submitted)).pipe(
    Effect.onError(() => SnowflakeStatement.end(ground, submitted)),
    Effect.onInterrupt(() => whatTheServerSaid),
    Effect.mapError(outage),
    Effect.flatMap((end) => (end._tag === "Finished" ? deliver(end) : Effect.fail(errorOf(end))))
  )
}
