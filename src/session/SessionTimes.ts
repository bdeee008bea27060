/**
 * The times that every store enforces alike.
 */
import * as Duration from "effect/Duration"

/** How long a store remembers why a session is over. */
export const tombstoneAge: Duration.Duration = Duration.hours(24)

/** How long a token goes on being accepted after the one that renewed it was first presented. */
export const renewalGrace: Duration.Duration = Duration.seconds(30)

/** The touch interval is this part of the idle timeout, and at most {@link longestTouchInterval}. */
export const touchShare = 10
export const longestTouchInterval: Duration.Duration = Duration.seconds(60)

/**
 * How old the last written activity may become before the next one is written. An activity in between is not written
 * down, so the end for idleness is enforced this much later than the idle timeout: never early.
 */
export const touchInterval = (idleTimeout: Duration.Duration): Duration.Duration =>
  Duration.min(Duration.divideUnsafe(idleTimeout, touchShare), longestTouchInterval)
