/**
 * What every request goes through, from the socket to its route and back, in one pass.
 *
 * ```
 * request ── its socket is watched ── its target is plain ── it comes from here ── route
 * answer  ── an error is a problem ── what it tells browsers
 * ```
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerRespondable from "effect/http/HttpServerRespondable"
import * as Bursts from "../lifetime/internal/Bursts.ts"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as Problem from "../http/Problem.ts"
import * as SameOrigin from "../http/SameOrigin.ts"
import { HoldfastApi } from "./HoldfastApi.ts"
import * as RequestObservers from "./RequestObservers.ts"
import * as RequestTarget from "./RequestTarget.ts"
import * as SecurityHeaders from "./SecurityHeaders.ts"
import { SlowReaders } from "./SlowReaders.ts"
import type { Socket } from "node:net"

/** For all routes of a router; `origin` is where browsers find the service. */
export const layer = (origin: URL) =>
  HttpRouter.middleware(
    Effect.gen(function* () {
      const { watch } = yield* SlowReaders
      const everywhere = yield* Problem.everywhere(HoldfastApi)
      const isForeign = SameOrigin.refusal(origin.origin)
      const secured = SecurityHeaders.adding(origin)
      let sentFrom: string | undefined
      const refusing = Bursts.makeUnsafe((_: "origin", count) =>
        LogEvent.warning(
          { event: "http.origin_refused", count, origin: sentFrom?.slice(0, 256), own: origin.origin },
          "Unsafe requests from another site were refused"
        )
      )
      const isSeen = (yield* RequestObservers.RequestObservers).length > 0
      return (handled) => {
        const answered = everywhere(isSeen ? RequestObservers.routed(handled) : handled)
        return Effect.withFiber(({ context }) => {
          const request = Context.getUnsafe(context, HttpServerRequest.HttpServerRequest)
          if (isSeen) RequestObservers.came(request)
          watch(NodeHttpServerRequest.toIncomingMessage(request).socket as Socket)
          const plain = RequestTarget.refusal(request)
          if (plain !== undefined) return Effect.map(HttpServerRespondable.toResponse(plain), secured)
          const foreign = isForeign(request)
          if (foreign === undefined) return Effect.map(answered, secured)
          sentFrom = request.headers["origin"]
          return Effect.andThen(refusing.note("origin"), Effect.map(HttpServerRespondable.toResponse(foreign), secured))
        })
      }
    }),
    { global: true }
  )
