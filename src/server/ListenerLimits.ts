/**
 * How many connections the service has open: in all, and of one address.
 *
 * The account lives as long as the server that it bounds. A connection counts from when it was accepted until it is closed.
 *
 * **Details**
 *
 * One more is answered 503 `TooManyConnections` with `Retry-After`, when its request begins or after a second, and closed a second
 * later; what is open stays open, long streams included. An address is an IPv4 address or the /64 of an IPv6 address. Those of
 * trusted proxies, which speak for many, have no bound of their own. The log has a line when refusing begins, and one when it is
 * over: when a tenth of what may be open is free again.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as IpNetwork from "effect/net/IpNetwork"
import type * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import type { Server } from "node:http"
import type { Socket } from "node:net"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as ClientAddress from "./ClientAddress.ts"
import * as RawAnswer from "./RawAnswer.ts"

export interface Limits {
  readonly maxConnections: number
  readonly maxConnectionsPerAddress: number
  readonly trustedProxies: ReadonlyArray<IpNetwork.IpNetwork>
}

const open = Metric.gauge("holdfast_http_connections", { description: "Connections of clients that are open" })
const refused = Metric.counter("holdfast_http_connections_refused_total", {
  description: "Connections that were answered 503, by the limit that was reached",
  incremental: true
})

/** When a caller may try again. */
const retryAfterSeconds = 10

/** How long a caller may take to send the request that is refused, and then to read the answer. */
const patienceMillis = 1000

/** So many callers are waited for; with more, each is answered as soon as it comes. */
const maxTurnedAway = 1000

/** The part of a limit below which refusing is over. */
const low = 0.9

const answerOf = (detail: string) =>
  RawAnswer.text(503, "TooManyConnections", "There are too many connections", detail, {
    "retry-after": String(retryAfterSeconds)
  })

/** One of the two limits, and whether it refuses at the moment. */
interface Limit {
  readonly name: "all" | "address"
  readonly variable: string
  readonly most: number
  readonly answer: string
  /** Those that are refused now: addresses, or all. */
  readonly refusing: Set<string>
  count: number
}

const limitOf = (name: Limit["name"], variable: string, most: number, who: string): Limit => ({
  name,
  variable,
  most,
  answer: answerOf(`${who} as many connections open as there may be, ${most}. Close some, or try again later.`),
  refusing: new Set(),
  count: 0
})

/** Makes the bounds, which are to be put on a server before it listens. */
export const make = (limits: Limits): Effect.Effect<(server: Server) => void> =>
  Effect.map(Effect.context<never>(), (context) => {
    const runFork = Effect.runForkWith(context)
    const all = limitOf("all", "HOLDFAST_MAX_CONNECTIONS", limits.maxConnections, "The service has")
    const ofAddress = limitOf(
      "address",
      "HOLDFAST_MAX_CONNECTIONS_PER_ADDRESS",
      limits.maxConnectionsPerAddress,
      "Your address has"
    )
    const counts = new Map<string, number>()
    let total = 0
    let turnedAway = 0

    const begins = (limit: Limit, who: string) => {
      limit.count++
      Metric.withAttributes(refused, { limit: limit.name }).updateUnsafe(1, context)
      if (limit.refusing.size === 0) {
        const whose = limit === all ? "" : ` of ${who}`
        runFork(
          LogEvent.warning(
            { event: "http.connections_refused", limit: limit.name, address: who },
            `Connections${whose} are refused: ${limit.most} are open, which is ${limit.variable}.`
          )
        )
      }
      limit.refusing.add(who)
    }

    const ends = (limit: Limit, who: string, now: number) => {
      if (!limit.refusing.has(who) || now > limit.most * low) return
      limit.refusing.delete(who)
      if (limit.refusing.size > 0) return
      runFork(
        LogEvent.info(
          { event: "http.connections_accepted", limit: limit.name, count: limit.count },
          `Connections${limit === all ? "" : " of every address"} are accepted again. ${limit.count} were refused.`
        )
      )
      limit.count = 0
    }

    const turnAway = (socket: Socket, { answer }: Limit) => {
      turnedAway++
      socket.once("close", () => turnedAway--)
      RawAnswer.turnAway(socket, answer, turnedAway > maxTurnedAway ? 0 : patienceMillis)
    }

    const change = (address: string | undefined, by: 1 | -1) => {
      total += by
      open.updateUnsafe(total, context)
      ends(all, "all", total)
      if (address === undefined) return
      const now = (counts.get(address) ?? 0) + by
      if (now === 0) counts.delete(address)
      else counts.set(address, now)
      ends(ofAddress, address, now)
    }

    /** What is bounded by itself; undefined for a trusted proxy. */
    const addressOf = ({ remoteAddress }: Socket): string | undefined =>
      Option.match(remoteAddress === undefined ? Option.none() : ClientAddress.parse(remoteAddress), {
        onNone: () => "unknown",
        onSome: (address) => (isTrusted(address) ? undefined : ClientAddress.client(address).client)
      })
    const isTrusted = (address: NetAddress.IpAddress) =>
      limits.trustedProxies.some((network) => IpNetwork.contains(network, address))

    return (server) => {
      const serve = server.listeners("connection")
      server.removeAllListeners("connection")
      server.on("connection", (socket: Socket) => {
        const address = addressOf(socket)
        if (address !== undefined && (counts.get(address) ?? 0) >= ofAddress.most) {
          begins(ofAddress, address)
          return turnAway(socket, ofAddress)
        }
        if (total >= all.most) {
          begins(all, "all")
          return turnAway(socket, all)
        }
        change(address, 1)
        socket.once("close", () => change(address, -1))
        for (const listener of serve) listener.call(server, socket)
      })
    }
  })
