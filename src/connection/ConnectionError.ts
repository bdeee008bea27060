/**
 * Why a connection could not be had or kept. One error for the area; the `reason` says which case it is.
 */
import * as Schema from "effect/Schema"

/** The server cannot be reached, refuses us, or the connection broke. Retrying later may help. */
export class Unavailable extends Schema.TaggedError<Unavailable>("holdfast/connection/ConnectionError/Unavailable")(
  "Unavailable",
  { source: Schema.String, cause: Schema.Defect() }
) {
  override get message(): string {
    const detail = this.cause instanceof Error ? this.cause.message : String(this.cause)
    return `No connection to ${this.source}: ${detail}. Check that the server runs and accepts this user.`
  }
}

/** Who holds a connection while others wait for it. For log and ledger only: never sent to a remote caller. */
export const Holder = Schema.Struct({
  kind: Schema.String,
  id: Schema.String,
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
      `No connection to ${this.source} became free within ${this.afterMillis} ms: ` +
      `${this.holders.length} of ${this.max} are leased. Raise \`max\`, or hold connections for a shorter time.`
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

/** The configuration makes no sense; `field` names what to change. */
export class InvalidConfig extends Schema.TaggedError<InvalidConfig>(
  "holdfast/connection/ConnectionError/InvalidConfig"
)("InvalidConfig", { field: Schema.String, problem: Schema.String }) {
  override get message(): string {
    return `Invalid connection configuration: ${this.field} ${this.problem}`
  }
}

/** The error of everything under `holdfast/connection`. */
export class ConnectionError extends Schema.TaggedError<ConnectionError>("holdfast/connection/ConnectionError")(
  "ConnectionError",
  { reason: Schema.Union([Unavailable, AcquireTimeout, Closed, InvalidConfig]) }
) {
  override get message(): string {
    return this.reason.message
  }
}
