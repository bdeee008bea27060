/**
 * Metrics whose updates are cheap: each series is a metric of its own, made with its attributes, and kept by who updates it.
 *
 * `Metric.withAttributes` builds the key of its series anew with each update, out of all its attributes, as soon as a metric has more
 * than one series that take turns. A metric that was made with its attributes keeps the key. Both have the same names, labels
 * and help, and two of the same attributes are one series.
 *
 * **Gotchas**
 *
 * `Metric.CurrentMetricAttributes` of a program are added, and one of the same name takes the place of the series' own.
 */
import * as Metric from "effect/Metric"

/** By name. */
export type Attributes = Readonly<Record<string, string>>

/** Makes the series of a metric that has some attributes. */
export type Series<M> = (attributes: Attributes) => M

/** Only goes up. */
export const counter =
  (name: string, description: string): Series<Metric.Counter<number>> =>
  (attributes) =>
    Metric.counter(name, { description, incremental: true, attributes })

/** Is what it was set to last. */
export const gauge =
  (name: string, description: string): Series<Metric.Gauge<number>> =>
  (attributes) =>
    Metric.gauge(name, { description, attributes })

/** Counts values up to each of the boundaries. */
export const histogram =
  (name: string, description: string, boundaries: ReadonlyArray<number>): Series<Metric.Histogram<number>> =>
  (attributes) =>
    Metric.histogram(name, { description, boundaries, attributes })

/** Keeps the series that were made, by the only attribute in which they differ: there are few values. */
export const by = <M>(make: (value: string) => M): ((value: string) => M) => {
  const known = new Map<string, M>()
  return (value) => {
    const found = known.get(value)
    if (found !== undefined) return found
    const made = make(value)
    known.set(value, made)
    return made
  }
}
