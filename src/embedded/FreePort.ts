/** Ports for servers of this machine that are started now, and may be stopped and started again. */
import * as Effect from "effect/Effect"
import { randomInt } from "node:crypto"
import * as Net from "node:net"

/**
 * A port that nobody used a moment ago, and that no outgoing connection is given (Linux: 32768 and above, `ip_local_port_range`;
 * RFC 6335, section 6: 49152 and above): one could take the place of a server that is down, and a client that asks for it again
 * and again could even meet itself.
 */
export const freePort: Effect.Effect<number> = Effect.callback<number, Error>((resume) => {
  const port = randomInt(20_000, 32_768)
  const server = Net.createServer()
  server.once("error", (error) => resume(Effect.fail(error)))
  server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(port))))
}).pipe(Effect.retry({ times: 100 }), Effect.orDie)
