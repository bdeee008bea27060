/**
 * The public name of a function: safe to log and to show to operators of the server, and no secret.
 */
import * as Schema from "effect/Schema"
import { randomUUID } from "node:crypto"

/** A version 4 UUID with the prefix `f_`. */
export const FunctionId = Schema.String.pipe(
  Schema.check(Schema.isPattern(/^f_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/u)),
  Schema.brand("holdfast/function/FunctionId")
)

export type FunctionId = typeof FunctionId.Type

/** A new name. */
export const make = (): FunctionId => FunctionId.make(`f_${randomUUID()}`)
