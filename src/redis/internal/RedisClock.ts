/** The clock by which the scripts of the session store decide. */
import * as Context from "effect/Context"

/**
 * Lua that answers with seconds and microseconds, as the command `TIME` does. Default: the server's clock. It is there for
 * tests, which move a clock of their own instead of the times that are stored.
 */
export const RedisClock = Context.Reference("holdfast/redis/RedisClock", {
  defaultValue: () => "redis.call('TIME')"
})
