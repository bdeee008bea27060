/**
 * What a query of a registry comes to, and what is tidied up then.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { keptReason } from "../../lifetime/internal/KeptText.ts"
import * as Query from "../Query.ts"
import { type QueryError, StatementFailed } from "../QueryError.ts"
import * as QueryMetrics from "./QueryMetrics.ts"
import type { Entry } from "./QueryRegistryEntry.ts"
import type { Ending } from "./QueryRegistrySharing.ts"

/** A defect of a driver must not leave a query without an outcome. */
const reasonOf = (cause: Cause.Cause<QueryError>): QueryError["reason"] => {
  const error = Cause.findErrorOption(cause)
  return Option.isSome(error)
    ? error.value.reason
    : new StatementFailed({ problem: "The query failed for an internal reason, which the log tells" })
}

/** Rows that nobody may read need no room. */
export const tidy = (entry: Entry, outcome: Query.Outcome): Effect.Effect<void> => {
  if (Exit.isSuccess(outcome)) return entry.measure()
  return Cause.hasDies(outcome.cause)
    ? Effect.andThen(QueryMetrics.failed(entry.record.id, outcome.cause), entry.free())
    : entry.free()
}

/** The state that an outcome is, and what the record tells of it. */
export const comesTo = (entry: Entry, outcome: Query.Outcome): Ending => {
  if (Exit.isSuccess(outcome)) {
    return { state: "Succeeded", change: { rowCount: outcome.value.rowCount, bytes: entry.bytes } }
  }
  const error = keptReason(reasonOf(outcome.cause))
  const isCanceled = entry.record.state === "Canceling" && Query.isCancel(error)
  return { state: isCanceled ? "Canceled" : "Failed", change: { error } }
}
