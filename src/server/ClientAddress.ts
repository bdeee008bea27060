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

/** Believes the forwarded headers of these networks; without networks, of nobody. */
export const believe = (trustedProxies: ReadonlyArray<IpNetwork.IpNetwork>) =>
  HttpMiddleware.xForwardedHeaders({ trustedProxies })

const parse = (request: HttpServerRequest) =>
  Option.map(
    Option.flatMap(request.remoteAddress, (text) =>
      // A link-local address carries the name of its network card.
      Option.getSuccess(NetAddress.ipFromString(text.replace(/%.*$/, "")))
    ),
    // A dual-stack socket writes IPv4 addresses as ::ffff:192.0.2.1.
    (address) => NetAddress.toCanonical(address)
  )

/** The address, to show to somebody. */
export const of = (request: HttpServerRequest): Option.Option<string> => Option.map(parse(request), NetAddress.formatIp)

/**
 * What is counted as one client: an IPv4 address, or the /64 of an IPv6 address, which is what one customer is given and
 * may choose from freely.
 */
export const client = (request: HttpServerRequest): string =>
  Option.match(parse(request), {
    onNone: () => "unknown",
    onSome: (address) =>
      NetAddress.isIpv6Address(address)
        ? IpNetwork.format(IpNetwork.fromAddressUnsafe(address, 64))
        : NetAddress.formatIp(address)
  })
