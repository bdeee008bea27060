/**
 * A line of the log for each request, where the operator asks for it.
 *
 * The path is there without its query, which may hold what is nobody's business, and no header but the name of the client's
 * program (OWASP Logging, "Data to exclude").
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as ClientAddress from "./ClientAddress.ts"
import { Log } from "./Logging.ts"
import type { Observer } from "./RequestObservers.ts"

/** As long as a name of a program is of use. */
const longest = 256

/** Writes to the {@link Log} in context. */
export const make: Effect.Effect<Observer, never, Log> = Effect.map(Log, ({ later }): Observer => ({
  countsBytes: true,
  over: ({ bytes, from, method, millis, request, route, status }) => {
    const { headers, socket, url = "" } = request
    const address = from === undefined ? Option.none() : ClientAddress.of(from)
    later({
      timestamp: new Date().toISOString(),
      level: "info",
      message: "A request is over",
      fields: {
        event: "http.request",
        method,
        path: url.split("?", 1)[0]?.slice(0, longest),
        route,
        status,
        millis: Math.round(millis * 1000) / 1000,
        bytes,
        ip: Option.getOrUndefined(address) ?? socket.remoteAddress,
        userAgent: headers["user-agent"]?.slice(0, longest)
      }
    })
  }
}))
