/**
 * What the process itself uses, under the names that Prometheus' clients give these figures, and which build it is.
 *
 * They are read when somebody asks, until the layer closes. Delays of the event loop are those since they were read last, at least
 * five seconds ago.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import { readdirSync, readFileSync } from "node:fs"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { getHeapStatistics } from "node:v8"
import { manifest } from "./Manifest.ts"

const count = (name: string, description: string) => Metric.counter(name, { description })
const gauge = (name: string, description: string) => Metric.gauge(name, { description })

/** How often the event loop is looked at, and how long its figures stand, in milliseconds. */
const resolution = 20
const shortest = 5000

/** Delays beyond the timer's own, in seconds. */
const seconds = (nanoseconds: number) =>
  Number.isFinite(nanoseconds) ? Math.max(nanoseconds / 1e9 - resolution / 1000, 0) : 0

const readDelays = ({ max, mean, percentile }: { max: number; mean: number; percentile: (of: number) => number }) => ({
  mean: seconds(mean),
  max: seconds(max),
  p50: seconds(percentile(50)),
  p99: seconds(percentile(99))
})

const delays = Effect.acquireRelease(
  Effect.sync(() => {
    const histogram = monitorEventLoopDelay({ resolution })
    histogram.enable()
    return histogram
  }),
  (histogram) => Effect.sync(() => histogram.disable())
).pipe(
  Effect.map((histogram) => {
    const read = () =>
      readDelays({ max: histogram.max, mean: histogram.mean, percentile: (of) => histogram.percentile(of) })
    let last = read()
    let at = -Infinity
    return () => {
      const now = performance.now()
      if (now - at < shortest) return last
      at = now
      last = read()
      histogram.reset()
      return last
    }
  })
)

/** Linux has these, and other systems none. */
const ofSystem = <A>(read: () => A): A | undefined => {
  try {
    return read()
  } catch {
    return undefined
  }
}
const openFiles = () => ofSystem(() => readdirSync("/proc/self/fd").length - 1)
const mostFiles = () =>
  ofSystem(() => Number(/^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1]))

const startedAt = Date.now() / 1000 - process.uptime()

const buildInfo = Metric.withAttributes(
  gauge("holdfast_build_info", "Which Holdfast this is, on which Node; always 1"),
  {
    version: manifest.version,
    node: process.versions.node
  }
)

/** Registers the figures in the registry of metrics of the current context. */
export const layer: Layer.Layer<never> = Layer.effectDiscard(
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    const delay = yield* delays
    const registered: Array<Metric.Registration> = []
    const nothing = { update: () => undefined, modify: () => undefined }
    const observeCount = (metric: Metric.Counter<number>, read: () => number) =>
      registered.push(
        Metric.registerUnsafe(metric, context, {
          get: () => ({ count: read(), incremental: true }),
          ...nothing
        })
      )
    const observe = (metric: Metric.Gauge<number>, read: () => number) =>
      registered.push(Metric.registerUnsafe(metric, context, { get: () => ({ value: read() }), ...nothing }))

    observe(buildInfo, () => 1)
    observeCount(
      count("process_cpu_user_seconds_total", "Processor time in user mode"),
      () => process.cpuUsage().user / 1e6
    )
    observeCount(
      count("process_cpu_system_seconds_total", "Processor time in the system"),
      () => process.cpuUsage().system / 1e6
    )
    observeCount(count("process_cpu_seconds_total", "Processor time"), () => {
      const { system, user } = process.cpuUsage()
      return (system + user) / 1e6
    })
    observe(gauge("process_start_time_seconds", "When the process was started, since the epoch"), () => startedAt)
    observe(gauge("process_resident_memory_bytes", "Memory that the process has"), () => process.memoryUsage.rss())
    const isKnown = openFiles() !== undefined
    if (isKnown) {
      observe(gauge("process_open_fds", "Files and sockets that are open"), () => openFiles() ?? 0)
      const most = mostFiles()
      if (most !== undefined && Number.isFinite(most)) {
        observe(gauge("process_max_fds", "Files and sockets that may be open"), () => most)
      }
    }
    observe(gauge("nodejs_heap_size_total_bytes", "The heap of V8"), () => getHeapStatistics().total_heap_size)
    observe(gauge("nodejs_heap_size_used_bytes", "What of it is in use"), () => getHeapStatistics().used_heap_size)
    observe(
      gauge("nodejs_external_memory_bytes", "Memory outside of the heap that objects hold"),
      () => getHeapStatistics().external_memory
    )
    observe(gauge("nodejs_eventloop_lag_mean_seconds", "Delay of the event loop, on average"), () => delay().mean)
    observe(gauge("nodejs_eventloop_lag_max_seconds", "The longest delay of the event loop"), () => delay().max)
    observe(gauge("nodejs_eventloop_lag_p50_seconds", "Half of the delays are shorter"), () => delay().p50)
    observe(gauge("nodejs_eventloop_lag_p99_seconds", "Of a hundred delays one is longer"), () => delay().p99)
    yield* Effect.addFinalizer(() => Effect.sync(() => registered.forEach((it) => it.remove())))
  })
)
