/**
 * A TCP proxy that misbehaves on request: for tests of what happens when the network does.
 *
 * It listens on a free port of the loopback address for as long as the scope it was made in, and closes every connection
 * at its end. What happens to a new connection is decided when it arrives, see {@link FaultProxy.decide}; the rest acts on those that are
 * open.
 *
 * **Details**
 *
 * | what a network does                              | here                                        |
 * | ------------------------------------------------ | ------------------------------------------- |
 * | nobody listens, or a firewall resets             | `decide(() => "refuse")`                    |
 * | packets vanish, new connections get no answer    | `decide(() => "swallow")`                   |
 * | it forgets what is open, and what is new works   | `swallowOpen`                               |
 * | everything vanishes for a while                  | `silence`, `speak`                          |
 * | a route is interrupted, and nothing is lost      | `freeze`, `thaw`                            |
 * | connections are reset                            | `cut`, or `cutAfter` so many bytes          |
 * | it is far away, or slow                          | `decide(() => ({ delay: 50, throttle: 10_000 }))` |
 * | a message arrives in pieces, or several at once  | `decide(() => ({ split: 1 }))`, `{ coalesce: 20 }`  |
 * | notifications are lost, and nothing else         | `loseNotifications`                         |
 *
 * All times are real, whatever the test's clock says.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { createConnection, createServer, type AddressInfo, type Socket } from "node:net"
import { inRealTime } from "../embedded/Postmaster.ts"
import * as FaultFrames from "./internal/FaultFrames.ts"
import { FaultPipe, type Travel } from "./internal/FaultPipe.ts"

export type { Travel } from "./internal/FaultPipe.ts"

/** `pass` forwards, `refuse` resets at once, `swallow` accepts and answers nothing ever; the rest forwards in its way. */
export type Fault = "pass" | "refuse" | "swallow" | Travel

/** What the proxy stands in front of. */
export interface Target {
  readonly host: string
  readonly port: number
  /** What the server speaks, without TLS: needed for {@link FaultProxy.loseNotifications} alone. */
  readonly protocol?: "postgres" | "redis" | undefined
}

export interface FaultProxy {
  readonly host: string
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
  /** Drops everything from now on, on old and new connections, and closes nothing. A connection that has lost a byte never recovers. */
  readonly silence: Effect.Effect<void>
  /** Ends {@link FaultProxy.silence}: new connections work, and so do those that had nothing to say. */
  readonly speak: Effect.Effect<void>
  /** Resets all open connections. */
  readonly cut: Effect.Effect<void>
  /** Whether the server's notifications are lost from now on. Dies where the {@link Target} names no protocol. */
  readonly loseNotifications: (yes: boolean) => Effect.Effect<void>
  /** Notifications that were lost. */
  readonly lost: Effect.Effect<number>
  /** Bytes that were dropped on connections that are swallowed or silent. */
  readonly dropped: Effect.Effect<number>
  /** Open connections. */
  readonly open: Effect.Effect<number>
  /**
   * Does one thing after the other, each so long after the one before, and returns when the last is done. Fork it where the test goes
   * on meanwhile.
   */
  readonly script: (
    ...steps: ReadonlyArray<readonly [after: Duration.Input, step: Effect.Effect<void>]>
  ) => Effect.Effect<void>
}

/** The two sides of a connection, and what has become of it. */
interface Connection {
  readonly sockets: ReadonlyArray<Socket>
  isSwallowed: boolean
}

const host = "127.0.0.1"

const noProtocol = new Error(
  "loseNotifications needs to know what the server speaks: name `protocol` in FaultProxy.make"
)

const protocols: Readonly<Record<string, Target["protocol"]>> = {
  "postgres:": "postgres",
  "postgresql:": "postgres",
  "redis:": "redis"
}

/** A proxy in front of the server of a URL. */
export interface ProxyOfUrl extends FaultProxy {
  /** The same URL, through the proxy. */
  readonly url: Redacted.Redacted<string>
}

/** Makes a proxy in front of the server of a URL, and tells the URL through it. */
export const to = Effect.fnUntraced(function* (
  url: Redacted.Redacted<string>
): Effect.fn.Return<ProxyOfUrl, never, Scope.Scope> {
  const { hostname, port, protocol } = new URL(Redacted.value(url))
  const usual = protocol === "redis:" ? 6379 : 5432
  const target = { host: hostname, port: port === "" ? usual : Number(port), protocol: protocols[protocol] }
  const proxy = yield* make(target)
  return { ...proxy, url: proxy.through(url) }
})

/** Makes a proxy in front of a server. */
export const make = (target: Target): Effect.Effect<FaultProxy, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<{ readonly proxy: FaultProxy; readonly close: Effect.Effect<void> }>((resume) => {
      const protocol = target.protocol === undefined ? undefined : FaultFrames.protocols[target.protocol]
      let decide: (connection: number) => Fault = () => "pass"
      let decideCancels: Fault | undefined
      let isSilent = false
      let isLosing = false
      let count = 0
      let cancels = 0
      let lost = 0
      let dropped = 0
      const sockets = new Set<Socket>()
      const connections = new Set<Connection>()
      const keep = (socket: Socket) => {
        sockets.add(socket)
        socket.setNoDelay(true)
        socket.on("close", () => sockets.delete(socket))
        socket.on("error", () => socket.destroy())
      }

      const pipe = (
        connection: Connection,
        from: Socket,
        to: Socket,
        travel: Travel,
        heard: (piece: Buffer) => Buffer
      ) => {
        const way = new FaultPipe(to, travel)
        from.on("data", (piece: Buffer) => {
          if (isSilent) connection.isSwallowed = true
          if (connection.isSwallowed) dropped += piece.length
          else way.push(heard(piece))
        })
        from.on("close", () => {
          if (!connection.isSwallowed) way.end()
          if (connection.sockets.every(({ destroyed }) => destroyed)) connections.delete(connection)
        })
      }
      /** What of the server's bytes passes. */
      const listener = (connection: Connection, cutAfter = Infinity) => {
        const split = protocol === undefined ? undefined : FaultFrames.splitter(protocol)
        let passed = 0
        return (piece: Buffer): Buffer => {
          const frames = split === undefined ? [piece] : split(piece)
          const kept = frames.filter((frame) => {
            const isLost = isLosing && protocol?.isNotification(frame) === true
            if (isLost) lost++
            return !isLost
          })
          const all = Buffer.concat(kept)
          passed += all.length
          if (passed > cutAfter) for (const socket of connection.sockets) socket.resetAndDestroy()
          return all
        }
      }
      const forward = (client: Socket, travel: Travel, first: Buffer | undefined) => {
        const upstream = createConnection(target)
        keep(upstream)
        const connection: Connection = { sockets: [client, upstream], isSwallowed: false }
        connections.add(connection)
        pipe(connection, client, upstream, travel, (piece) => piece)
        pipe(connection, upstream, client, travel, listener(connection, travel.cutAfter))
        if (first !== undefined) client.emit("data", first)
      }
      const treat = (client: Socket, fault: Fault, first?: Buffer) => {
        if (fault === "refuse") client.resetAndDestroy()
        else if (fault === "swallow") client.resume()
        else forward(client, fault === "pass" ? {} : fault, first)
      }
      const server = createServer((client) => {
        keep(client)
        const fault = decide(++count)
        const faultOfCancel = decideCancels
        client.once("data", (first) => {
          const isCancel = FaultFrames.isCancel(first)
          if (isCancel) cancels++
          if (faultOfCancel !== undefined) treat(client, isCancel ? faultOfCancel : fault, first)
        })
        if (faultOfCancel === undefined) treat(client, fault)
      })

      const set = (change: () => void) => Effect.sync(change)
      const each = (f: (socket: Socket) => void) => set(() => sockets.forEach(f))
      server.listen(0, host, () => {
        const { port } = server.address() as AddressInfo
        const proxy: FaultProxy = {
          host,
          port,
          through: (url) => {
            const changed = new URL(Redacted.value(url))
            changed.hostname = host
            changed.port = String(port)
            return Redacted.make(changed.href)
          },
          decide: (fault) =>
            set(() => {
              decide = fault
              count = 0
            }),
          decideCancels: (fault) => set(() => (decideCancels = fault)),
          cancels: Effect.sync(() => cancels),
          freeze: each((socket) => socket.pause()),
          thaw: each((socket) => socket.resume()),
          swallowOpen: set(() => {
            for (const connection of connections) {
              connection.isSwallowed = true
              // What was frozen is not held any more, but gone.
              for (const socket of connection.sockets) socket.resume()
            }
          }),
          silence: set(() => (isSilent = true)),
          speak: set(() => (isSilent = false)),
          cut: each((socket) => socket.resetAndDestroy()),
          loseNotifications: (yes) => (protocol === undefined ? Effect.die(noProtocol) : set(() => (isLosing = yes))),
          lost: Effect.sync(() => lost),
          dropped: Effect.sync(() => dropped),
          open: Effect.sync(() => sockets.size / 2),
          script: (...steps) =>
            Effect.forEach(steps, ([after, step]) => Effect.andThen(Effect.sleep(after), step), { discard: true }).pipe(
              inRealTime
            )
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
