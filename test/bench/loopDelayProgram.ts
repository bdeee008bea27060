/**
 * For `--import`: tells the delay of a program's event loop. On SIGUSR2 it writes it, in milliseconds since the last time, to the file
 * that `HOLDFAST_BENCH_DELAY` names.
 */
import { renameSync, writeFileSync } from "node:fs"
import { monitorEventLoopDelay } from "node:perf_hooks"

const file = process.env["HOLDFAST_BENCH_DELAY"]

if (file !== undefined) {
  const histogram = monitorEventLoopDelay({ resolution: 1 })
  histogram.enable()
  // What it measures holds its own resolution.
  const millis = (nanos: number) => nanos / 1e6 - 1
  process.on("SIGUSR2", () => {
    const { max } = histogram
    const told = { p50: millis(histogram.percentile(50)), p99: millis(histogram.percentile(99)), max: millis(max) }
    // A reader of the file finds all of it.
    writeFileSync(`${file}.new`, JSON.stringify(told))
    renameSync(`${file}.new`, file)
    histogram.reset()
  })
}
