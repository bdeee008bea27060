/**
 * What is stored of a function, until its time is up by the store's clock.
 */
import * as Schema from "effect/Schema"
import { FunctionId } from "./FunctionId.ts"

export const FunctionRecord = Schema.Struct({
  id: FunctionId,
  /** Who may see, execute and end it. */
  principal: Schema.String,
  /** Such as `javascript`, `typescript` or `python`. */
  language: Schema.String,
  title: Schema.NullOr(Schema.String),
  script: Schema.String,
  /** A JSON text, which each execution gets beside its parameters. */
  context: Schema.String,
  createdAt: Schema.DateTimeUtc,
  /**
   * When it is gone unless it is executed before, and then in any case: never later than what is enforced. Executing it moves the
   * first.
   */
  expiresAt: Schema.DateTimeUtc
})
export type FunctionRecord = typeof FunctionRecord.Type
