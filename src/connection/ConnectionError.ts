/**
 * Why a connection could not be had or kept. One error for the area; the `reason` says which case it is.
 */
import { hasProperty } from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as ProblemAnswer from "../problem/ProblemAnswer.ts"
import * as ConnectionAnswers from "./internal/ConnectionAnswers.ts"

/** What the server or the system said, with SQLSTATE or the system's code. */
const said = (cause: unknown): string => {
  const message = cause instanceof Error ? cause.message : String(cause)
  const code = hasProperty(cause, "code") && typeof cause.code === "string" ? cause.code : ""
  return code === "" || message.includes(code) ? message : `${message} (${code})`
}

/** The server cannot be reached, refuses us, or the connection broke. Retrying later may help. */
export class Unavailable extends Schema.TaggedError<Unavailable>("holdfast/connection/ConnectionError/Unavailable")(
  "Unavailable",
  { source: Schema.String, cause: Schema.Defect() }
) {
  override get message(): string {
    return `No connection to ${this.source}: ${said(this.cause)}. Check that the server runs and accepts this user.`
  }
}

/** The server, or a pooler in front of it, has no room for one more connection. It runs, and what is open works. */
export class NoRoom extends Schema.TaggedError<NoRoom>("holdfast/connection/ConnectionError/NoRoom")("NoRoom", {
  source: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    const detail = this.cause instanceof Error ? this.cause.message : String(this.cause)
    return (
      `${this.source} has no room for one more connection: ${detail}. ` +
      "Close connections of other programs, lower `max` there, or raise the limit of the server, the database or the role."
    )
  }
}

/** Who holds a connection while others wait for it. For log and ledger only: never sent to a remote caller. */
export const Holder = Schema.Struct({
  /** What holds it, such as `query`, and its id; the lease itself where nothing else is known. */
  kind: Schema.String,
  id: Schema.String,
  connection: Schema.String,
  owner: Schema.UndefinedOr(Schema.String),
  heldForMillis: Schema.Finite,
  site: Schema.UndefinedOr(Schema.String)
})

/** Every connection was in use for the whole acquire timeout. */
export class AcquireTimeout extends Schema.TaggedError<AcquireTimeout>(
  "holdfast/connection/ConnectionError/AcquireTimeout"
)("AcquireTimeout", {
  source: Schema.String,
  afterMillis: Schema.Finite,
  max: Schema.Int,
  holders: Schema.Array(Holder)
}) {
  override get message(): string {
    return (
      `No connection to ${this.source} became free or could be opened within ${this.afterMillis} ms: ` +
      `${this.holders.length} of ${this.max} are leased. Raise \`max\`, or hold connections for a shorter time.`
    )
  }
}

/** So many borrowers wait already that one more is refused at once. */
export class TooManyWaiters extends Schema.TaggedError<TooManyWaiters>(
  "holdfast/connection/ConnectionError/TooManyWaiters"
)("TooManyWaiters", { source: Schema.String, waiting: Schema.Int }) {
  override get message(): string {
    return `${this.waiting} borrowers wait for a connection to ${this.source} already. Try again later, or raise \`maxWaiting\`.`
  }
}

/** A returned connection could not be made as good as new, and was closed. */
export class ResetFailed extends Schema.TaggedError<ResetFailed>("holdfast/connection/ConnectionError/ResetFailed")(
  "ResetFailed",
  { source: Schema.String, cause: Schema.Defect() }
) {
  override get message(): string {
    return `A returned connection to ${this.source} could not be reset and was closed. See what the last borrower did to it.`
  }
}

/** The lease lasted for longer than the pool allows; its statement was ended and its connection closed. */
export class LeaseExpired extends Schema.TaggedError<LeaseExpired>("holdfast/connection/ConnectionError/LeaseExpired")(
  "LeaseExpired",
  { source: Schema.String, afterMillis: Schema.Finite }
) {
  override get message(): string {
    return (
      `The connection to ${this.source} was held for longer than ${this.afterMillis} ms, and was taken back and closed. ` +
      "Hold connections for a shorter time, or raise `maxLease`."
    )
  }
}

/** The pool is closed or closing. */
export class Closed extends Schema.TaggedError<Closed>("holdfast/connection/ConnectionError/Closed")("Closed", {
  source: Schema.String
}) {
  override get message(): string {
    return `The pool of ${this.source} is closed. Use connections within the lifetime of the layer that provides them.`
  }
}

/** The session, or whatever the connection was for, ended: its work gets no connection any more. */
export class OwnerEnded extends Schema.TaggedError<OwnerEnded>("holdfast/connection/ConnectionError/OwnerEnded")(
  "OwnerEnded",
  { kind: Schema.String, id: Schema.String }
) {
  override get message(): string {
    return `The ${this.kind} ${this.id} has ended, and its work with it. Begin the work again in another one.`
  }
}

/** The configuration makes no sense; `field` names what to change. */
export class InvalidConfig extends Schema.TaggedError<InvalidConfig>(
  "holdfast/connection/ConnectionError/InvalidConfig"
)("InvalidConfig", { field: Schema.String, problem: Schema.String }) {
  override get message(): string {
    return `Invalid connection configuration: ${this.field} ${this.problem}`
  }
}

/** The error of everything under `holdfast/connection`. A route that it leaves answers with the problem of its reason. */
export class ConnectionError extends Schema.TaggedError<ConnectionError>("holdfast/connection/ConnectionError")(
  "ConnectionError",
  {
    reason: Schema.Union([
      Unavailable,
      NoRoom,
      AcquireTimeout,
      TooManyWaiters,
      LeaseExpired,
      ResetFailed,
      Closed,
      OwnerEnded,
      InvalidConfig
    ])
  }
) {
  override get message(): string {
    return this.reason.message
  }

  [ProblemAnswer.symbol]() {
    return ProblemAnswer.of(ConnectionAnswers.table, this)
  }
}
