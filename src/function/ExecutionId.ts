/**
 * The public name of an execution: safe to log and to show to operators of the server, and no secret.
 */
import * as Schema from "effect/Schema"
import { randomUUID } from "node:crypto"

/** A version 4 UUID with the prefix `x_`. */
export const ExecutionId = Schema.String.pipe(
  Schema.check(Schema.isPattern(/^x_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/u)),
  Schema.brand("holdfast/function/ExecutionId")
)

export type ExecutionId = typeof ExecutionId.Type

/** A new name. */
export const make = (): ExecutionId => ExecutionId.make(`x_${randomUUID()}`)
