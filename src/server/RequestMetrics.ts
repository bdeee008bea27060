/**
 * What is counted and measured of requests, by method, route and status.
 *
 * A route is the path as the API has it, such as `/queries/:id`, or `other` for what is no call of the service, so there are never
 * more series than calls, methods and statuses.
 */
import * as Effect from "effect/Effect"
import type * as Metric from "effect/Metric"
import * as Series from "../lifetime/internal/Series.ts"
import type { Observer } from "./RequestObservers.ts"

const answered = Series.counter("holdfast_http_requests_total", "Requests that are over, by method, route and status")
const time = Series.histogram(
  "holdfast_http_request_seconds",
  "Time from the headers of a request until its answer was sent",
  [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60]
)

/** The series of a method and a route. */
class Call {
  readonly method: string
  readonly route: string
  readonly time: Metric.Histogram<number>
  readonly statuses = new Map<number, Metric.Counter<number>>()

  constructor(method: string, route: string) {
    this.method = method
    this.route = route
    this.time = time({ method, route })
  }

  status(status: number): Metric.Counter<number> {
    const known = this.statuses.get(status)
    if (known !== undefined) return known
    const { method, route } = this
    const made = answered({ method, route, status: String(status) })
    this.statuses.set(status, made)
    return made
  }
}

/** Any other word is a method, too, and a client may send as many as it likes. */
const methods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])

/** Counts in the registry of metrics of the current context. */
export const make: Effect.Effect<Observer> = Effect.map(Effect.context<never>(), (context) => {
  const callsOf = Series.by((method) => Series.by((route) => new Call(method, route)))
  return {
    over: ({ method, millis, route, status }) => {
      const call = callsOf(methods.has(method) ? method : "other")(route ?? "other")
      call.time.updateUnsafe(millis / 1000, context)
      call.status(status).updateUnsafe(1, context)
    }
  }
})
