/**
 * Where a request comes from.
 *
 * The peer of the connection, or what a trusted proxy says of it: `X-Forwarded-For`, read from the right up to the first
 * address that is no trusted proxy's, because everything left of it is whatever the client wrote.
 */
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"

/** Believes the forwarded headers of these networks. */
export const believe = (trustedProxies: ReadonlyArray<IpNetwork.IpNetwork>) =>
  HttpMiddleware.xForwardedHeaders({ trustedProxies })

/** An address as a socket or a header has it. */
export const parse = (text: string): Option.Option<NetAddress.IpAddress> =>
  Option.map(
    // A link-local address carries the name of its network card.
    Option.getSuccess(NetAddress.ipFromString(text.replace(/%.*$/, ""))),
    // A dual-stack socket writes IPv4 addresses as ::ffff:192.0.2.1.
    (address) => NetAddress.toCanonical(address)
  )

const addressOf = (request: HttpServerRequest) => Option.flatMap(request.remoteAddress, parse)

/** The address, to show to somebody. */
export const of = (request: HttpServerRequest): Option.Option<string> =>
  Option.map(addressOf(request), NetAddress.formatIp)

/** An address as text: one client, and the networks that it is part of, the largest first. */
export interface Client {
  readonly client: string
  readonly networks: ReadonlyArray<string>
}

const prefixes = { 4: [16, 24], 6: [32, 48, 56] } as const

const networkOf = (address: NetAddress.IpAddress, prefix: number) =>
  IpNetwork.format(IpNetwork.fromAddressUnsafe(address, prefix))

/**
 * What is counted as one client: an IPv4 address, or the /64 of an IPv6 address, which is what one customer is given and
 * may choose from freely. Who has more addresses has them in networks of the next sizes: a site has a /48 or a /56 (RFC 6177), a
 * provider a /32.
 */
export const client = (address: NetAddress.IpAddress): Client =>
  NetAddress.isIpv6Address(address)
    ? { client: networkOf(address, 64), networks: prefixes[6].map((prefix) => networkOf(address, prefix)) }
    : { client: NetAddress.formatIp(address), networks: prefixes[4].map((prefix) => networkOf(address, prefix)) }

/** The client that sent a request. */
export const clientOf = (request: HttpServerRequest): Client =>
  Option.match(addressOf(request), { onNone: () => ({ client: "unknown", networks: [] }), onSome: client })
