/**
 * Which trace a statement belongs to, in a comment ahead of it.
 *
 * The form is that of sqlcommenter (https://google.github.io/sqlcommenter/spec/): `/*traceparent='00-…-…-01'*\/`, with the value of W3C
 * Trace Context. sqlcommenter puts it at the end. There it would become part of an unterminated text of the user's, and the server would
 * cut it off in `pg_stat_activity`, which shows a kilobyte of a statement. Ahead of the statement it changes nothing but positions.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"

/** W3C's, or the shorter one of B3. Nothing else may get into a statement. */
const isTraceId = /^(?:[0-9a-f]{16}){1,2}$/
const isSpanId = /^[0-9a-f]{16}$/

/** What goes ahead of a statement under a span. Nothing under one whose ids make no `traceparent`. */
export const of = ({ sampled, spanId, traceId }: Pick<Tracer.AnySpan, "sampled" | "spanId" | "traceId">): string =>
  isTraceId.test(traceId) && isSpanId.test(spanId)
    ? `/*traceparent='00-${traceId.padStart(32, "0")}-${spanId}-${sampled ? "01" : "00"}'*/ `
    : ""

/** That of the current span. Nothing where there is none. */
export const current: Effect.Effect<string> = Effect.withFiber((fiber) => {
  const span = Context.getOrUndefined(fiber.context, Tracer.ParentSpan)
  return Effect.succeed(span === undefined ? "" : of(span))
})
