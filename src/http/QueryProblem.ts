/**
 * What the query calls answer when they do not succeed.
 */
import * as Schema from "effect/Schema"
import * as Problem from "./Problem.ts"
import * as QueryAnswers from "../query/internal/QueryAnswers.ts"
import type { QueryError } from "../query/QueryError.ts"
import { QueryId } from "../query/QueryId.ts"

export class QueryNotFound extends Problem.Class<QueryNotFound>()(...QueryAnswers.notFound) {}

export class QueryNotSucceeded extends Problem.Class<QueryNotSucceeded>()(...QueryAnswers.notSucceeded, {
  state: Schema.String
}) {}

export class IdempotencyConflict extends Problem.Class<IdempotencyConflict>()(...QueryAnswers.conflict, {
  /** That query. */
  id: QueryId
}) {}

export class EngineUnknown extends Problem.Class<EngineUnknown>()(...QueryAnswers.engineUnknown, {
  /** Those that there are. */
  engines: Schema.Array(Schema.String)
}) {}

export class QueryRejected extends Problem.Class<QueryRejected>()(...QueryAnswers.rejected, {
  retryAfterSeconds: Schema.Int
}) {}

export class QueriesUnavailable extends Problem.Class<QueriesUnavailable>()(...QueryAnswers.unavailable) {}

export class QueriesNotConfigured extends Problem.Class<QueriesNotConfigured>()(
  "QueriesNotConfigured",
  503,
  "This service has no database for queries"
) {}

export class CursorInvalid extends Problem.Class<CursorInvalid>()(
  "CursorInvalid",
  400,
  "The cursor is not one of ours"
) {}

export class EventUnknown extends Problem.Class<EventUnknown>()(
  "EventUnknown",
  400,
  "The query has had no such event"
) {}

/** Long answers that the same user does not read leave no room for one more. */
export class TooManyAnswers extends Problem.Class<TooManyAnswers>()(
  "TooManyAnswers",
  429,
  "Too many of your answers are not read",
  { retryAfterSeconds: Schema.Int }
) {}

export class TooManyStreams extends Problem.Class<TooManyStreams>()(
  "TooManyStreams",
  429,
  "Too many of your event streams are open",
  { retryAfterSeconds: Schema.Int }
) {}

/** The problems of reading and cancelling. */
export type Reading = QueryNotFound | QueryNotSucceeded | QueriesUnavailable
export type Submitting = EngineUnknown | IdempotencyConflict | QueryRejected | QueriesUnavailable

/** An error of a submission as the caller sees it. */
export const fromSubmit = ({ reason }: QueryError): Submitting => {
  switch (reason._tag) {
    case "IdempotencyConflict":
      return new IdempotencyConflict({ detail: reason.message, id: reason.id })
    case "EngineUnknown":
      return new EngineUnknown({ detail: reason.message, engines: reason.engines })
    case "QueryRejected":
      return new QueryRejected({ detail: reason.message, retryAfterSeconds: reason.retryAfterSeconds })
    default:
      return new QueriesUnavailable({ detail: reason.message })
  }
}

/** An error of looking at a query as the caller sees it. */
export const fromRead = ({ reason }: QueryError): Reading => {
  switch (reason._tag) {
    case "QueryNotFound":
      return new QueryNotFound({ detail: reason.message })
    case "QueryNotSucceeded":
      return new QueryNotSucceeded({ detail: reason.message, state: reason.state })
    default:
      return new QueriesUnavailable({ detail: reason.message })
  }
}

/** As {@link fromRead}, for calls that read no rows. */
export const fromLook = ({ reason }: QueryError): QueryNotFound | QueriesUnavailable =>
  reason._tag === "QueryNotFound"
    ? new QueryNotFound({ detail: reason.message })
    : new QueriesUnavailable({ detail: reason.message })

/** An error of a listing as the caller sees it. */
export const fromList = ({ message }: QueryError): QueriesUnavailable => new QueriesUnavailable({ detail: message })
