/**
 * What is counted and measured of requests, by method, route and status.
 *
 * A route is the path as the API has it, such as `/queries/:id`, or `other` for what is no call of the service, so there are never
 * more series than calls, methods and statuses.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { Observer } from "./RequestObservers.ts"

const answered = Metric.counter("holdfast_http_requests_total", {
  description: "Requests that are over, by method, route and status",
  incremental: true
})
const time = Metric.histogram("holdfast_http_request_seconds", {
  description: "Time from the headers of a request until its answer was sent",
  boundaries: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60]
})

/** The series of a method and a route. */
class Series {
  readonly method: string
  readonly route: string
  readonly time: Metric.Histogram<number>
  readonly statuses = new Map<number, Metric.Counter<number>>()

  constructor(method: string, route: string) {
    this.method = method
    this.route = route
    this.time = Metric.withAttributes(time, { method, route })
  }

  status(status: number): Metric.Counter<number> {
    const known = this.statuses.get(status)
    if (known !== undefined) return known
    const { method, route } = this
    const made = Metric.withAttributes(answered, { method, route, status: String(status) })
    this.statuses.set(status, made)
    return made
  }
}

/** Any other word is a method, too, and a client may send as many as it likes. */
const methods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])

/** Counts in the registry of metrics of the current context. */
export const make: Effect.Effect<Observer> = Effect.map(Effect.context<never>(), (context) => {
  const known = new Map<string, Map<string, Series>>()
  const seriesOf = (method: string, route: string): Series => {
    const routes = known.get(method) ?? new Map<string, Series>()
    known.set(method, routes)
    const found = routes.get(route)
    if (found !== undefined) return found
    const made = new Series(method, route)
    routes.set(route, made)
    return made
  }
  return ({ method, millis, route, status }) => {
    const series = seriesOf(methods.has(method) ? method : "other", route ?? "other")
    series.time.updateUnsafe(millis / 1000, context)
    series.status(status).updateUnsafe(1, context)
  }
})
