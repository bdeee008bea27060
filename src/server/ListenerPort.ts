/**
 * Whether a port may be listened on, found out without listening: nobody can connect meanwhile.
 *
 * A proxy would take a connection that is accepted for a moment for a service that is there, and what it sent would be lost. So the
 * port is bound by a socket that connects to itself, and is given back at once.
 */
import * as Effect from "effect/Effect"
import { lookup } from "node:dns/promises"
import { connect, type Socket } from "node:net"
import { getSystemErrorMessage } from "node:util"

/** A socket that is bound to the port, or why there can be none. */
const bound = (host: string, port: number) =>
  Effect.callback<Socket, NodeJS.ErrnoException>((resume) => {
    const socket = connect({ host, port, localAddress: host, localPort: port })
    const done = (error?: NodeJS.ErrnoException) =>
      resume(error?.syscall === "bind" ? Effect.fail(error) : Effect.succeed(socket))
    // It is bound by then; that the machine's own packets are dropped changes nothing.
    socket.setTimeout(1000, () => done())
    socket.once("connect", () => done()).on("error", done)
    return Effect.sync(() => socket.resetAndDestroy())
  })

/** Fails with what the system says where the port cannot be had. */
export const check = Effect.fnUntraced(function* (host: string, port: number) {
  const { address } = yield* Effect.tryPromise({
    try: () => lookup(host),
    catch: (cause) => (cause instanceof Error ? cause : new Error(String(cause)))
  })
  // Any port is free that the system chooses.
  if (port === 0) return
  yield* Effect.scoped(
    Effect.acquireRelease(bound(address, port), (socket) => Effect.sync(() => socket.resetAndDestroy()))
  ).pipe(
    Effect.mapError(({ code = "", errno = 0 }) =>
      Object.assign(new Error(`bind ${code}: ${getSystemErrorMessage(errno)} ${address}:${port}`), { code })
    )
  )
})
