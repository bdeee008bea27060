/**
 * What the calls for the operator do. They need no session, and tell nobody's secrets.
 */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import { Engines } from "./Engines.ts"
import { HoldfastApi, NotReady } from "./HoldfastApi.ts"
import * as Metrics from "./Metrics.ts"
import { Readiness } from "./Readiness.ts"

/** Over {@link Readiness} and the {@link Engines}. */
export const layer = HttpApiBuilder.group(
  HoldfastApi,
  "health",
  Effect.fnUntraced(function* (handlers) {
    const readiness = yield* Readiness
    const metrics = yield* Metrics.make({ ...readiness, engines: yield* Engines })
    return handlers.handleAll({
      live: () => Effect.succeed({ status: "live" as const }),
      ready: Effect.fnUntraced(function* () {
        const waitingFor = yield* readiness.waitingFor
        if (waitingFor.length > 0) {
          return yield* new NotReady({ detail: "The service keeps trying. Ask again later.", waitingFor })
        }
        const enginesAway = yield* readiness.enginesAway
        return { status: "ready" as const, ...(enginesAway.length > 0 && { enginesAway }) }
      }),
      metrics: () => metrics
    })
  })
)
