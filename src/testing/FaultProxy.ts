/**
 * A TCP proxy that misbehaves on request: for tests of what happens when the network does.
 *
 * It listens on a free port of the loopback address for as long as the scope it was made in, and closes every connection
 * at its end. What happens to a new connection is decided when it arrives; {@link FaultProxy.freeze},
 * {@link FaultProxy.swallowOpen} and {@link FaultProxy.cut} act on those that are open.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { createConnection, createServer, type AddressInfo, type Socket } from "node:net"

/**
 * `pass` forwards, `refuse` resets at once, `swallow` accepts and answers nothing ever, `delay` forwards every piece so many
 * milliseconds late.
 */
export type Fault = "pass" | "refuse" | "swallow" | { readonly delay: number }

export interface FaultProxy {
  readonly port: number
  /** The URL with host and port of the proxy. */
  readonly through: (url: Redacted.Redacted<string>) => Redacted.Redacted<string>
  /** Decides about connections from now on; they are counted from 1. Replaces the decision before. */
  readonly decide: (fault: (connection: number) => Fault) => Effect.Effect<void>
  /**
   * Decides about connections that carry a PostgreSQL cancel request, whatever is decided about the others; `undefined` takes
   * the decision back. They are told by their first message, so not where the client encrypts it.
   */
  readonly decideCancels: (fault: Fault | undefined) => Effect.Effect<void>
  /** Cancel requests that arrived here, delivered or not. */
  readonly cancels: Effect.Effect<number>
  /** Stops forwarding on all open connections, without closing them. */
  readonly freeze: Effect.Effect<void>
  /** Forwards again, what was held first. */
  readonly thaw: Effect.Effect<void>
  /**
   * Drops all bytes of the connections that are open, for good, and tells neither side when the other closes; new connections
   * work. This is what a firewall, a NAT or a failover does that forgets its connections.
   */
  readonly swallowOpen: Effect.Effect<void>
  /** Resets all open connections. */
  readonly cut: Effect.Effect<void>
  /** Open connections. */
  readonly open: Effect.Effect<number>
}

const pipe = (from: Socket, to: Socket, delay: number, swallowed: WeakSet<Socket>) => {
  const isDropped = () => to.destroyed || swallowed.has(from)
  const forward = (piece: Buffer) => isDropped() || to.write(piece)
  const end = () => isDropped() || to.destroy()
  from.on("data", (piece: Buffer) => {
    if (delay === 0) forward(piece)
    else setTimeout(forward, delay, piece)
  })
  from.on("close", end)
  from.on("error", end)
}

/** https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-CANCELREQUEST */
const isCancel = (message: Buffer) => message.length >= 8 && message.readUInt32BE(4) === 80877102

/** Makes a proxy in front of a server. */
export const make = (target: {
  readonly host: string
  readonly port: number
}): Effect.Effect<FaultProxy, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<{ readonly proxy: FaultProxy; readonly close: Effect.Effect<void> }>((resume) => {
      let decide: (connection: number) => Fault = () => "pass"
      let decideCancels: Fault | undefined
      let count = 0
      let cancels = 0
      const sockets = new Set<Socket>()
      const swallowed = new WeakSet<Socket>()
      const keep = (socket: Socket) => {
        sockets.add(socket)
        socket.setNoDelay(true)
        socket.on("close", () => sockets.delete(socket))
        socket.on("error", () => socket.destroy())
      }
      const forward = (client: Socket, delay: number, first: Buffer | undefined) => {
        const upstream = createConnection(target)
        keep(upstream)
        pipe(client, upstream, delay, swallowed)
        pipe(upstream, client, delay, swallowed)
        if (first !== undefined) client.emit("data", first)
      }
      const treat = (client: Socket, fault: Fault, first?: Buffer) => {
        if (fault === "refuse") client.resetAndDestroy()
        else if (fault === "swallow") client.resume()
        else forward(client, fault === "pass" ? 0 : fault.delay, first)
      }
      const each = (f: (socket: Socket) => void) => Effect.sync(() => sockets.forEach(f))
      const server = createServer((client) => {
        keep(client)
        const fault = decide(++count)
        const faultOfCancel = decideCancels
        client.once("data", (first) => {
          const cancel = isCancel(first)
          if (cancel) cancels++
          if (faultOfCancel !== undefined) treat(client, cancel ? faultOfCancel : fault, first)
        })
        if (faultOfCancel === undefined) treat(client, fault)
      })
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        const proxy: FaultProxy = {
          port,
          through: (url) => {
            const changed = new URL(Redacted.value(url))
            changed.hostname = "127.0.0.1"
            changed.port = String(port)
            return Redacted.make(changed.href)
          },
          decide: (fault) =>
            Effect.sync(() => {
              decide = fault
              count = 0
            }),
          decideCancels: (fault) =>
            Effect.sync(() => {
              decideCancels = fault
            }),
          cancels: Effect.sync(() => cancels),
          freeze: each((socket) => socket.pause()),
          thaw: each((socket) => socket.resume()),
          swallowOpen: each((socket) => {
            swallowed.add(socket)
            // What was frozen is not held any more, but gone.
            socket.resume()
          }),
          cut: each((socket) => socket.resetAndDestroy()),
          open: Effect.sync(() => sockets.size / 2)
        }
        const close = Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          for (const socket of sockets) socket.destroy()
        })
        resume(Effect.succeed({ proxy, close }))
      })
    }),
    ({ close }) => close
  ).pipe(Effect.map(({ proxy }) => proxy))
