/**
 * The public name of a session: stable for its whole life, safe to log and to show, and no secret.
 */
import * as Schema from "effect/Schema"
import { randomUUID } from "node:crypto"

/** A version 4 UUID with the prefix `s_`. */
export const SessionId = Schema.String.pipe(
  Schema.check(Schema.isPattern(/^s_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/u)),
  Schema.brand("holdfast/session/SessionId")
)

export type SessionId = typeof SessionId.Type

/** A new name. */
export const make = (): SessionId => SessionId.make(`s_${randomUUID()}`)
