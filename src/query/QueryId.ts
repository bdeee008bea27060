/**
 * The public name of a query: safe to log and to show to operators of the server, and no secret.
 */
import * as Schema from "effect/Schema"
import { randomUUID } from "node:crypto"

/** A version 4 UUID with the prefix `q_`. */
export const QueryId = Schema.String.pipe(
  Schema.check(Schema.isPattern(/^q_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/u)),
  Schema.brand("holdfast/query/QueryId")
)

export type QueryId = typeof QueryId.Type

/** A new name. */
export const make = (): QueryId => QueryId.make(`q_${randomUUID()}`)
