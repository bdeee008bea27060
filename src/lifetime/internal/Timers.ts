/**
 * How far ahead a timer of the platform and a setting of PostgreSQL in milliseconds reach: both are 32 bits.
 *
 * A longer one is taken for a millisecond by the first and refused by the second. Effect's own clock has no such limit.
 */
import * as Duration from "effect/Duration"

/** 24 days, 20 hours, 31 minutes and some. */
export const longest = Duration.millis(2 ** 31 - 1)

/** Said of a duration that is longer. */
export const tooLong = "must be at most 24 days"

/** The duration, or the longest there is; at least a millisecond. */
export const clamp = (duration: Duration.Duration): Duration.Duration =>
  Duration.clamp(duration, { minimum: Duration.millis(1), maximum: longest })
