/**
 * For `--import`: tells what the turns of a program's event loop cost, and how large it was.
 *
 * On SIGUSR2 it writes the most processor time that one turn took, in milliseconds, and the largest resident memory, in bytes,
 * since the last time, to the file that `HOLDFAST_TEST_TURNS` names. Processor time, because a machine that is busy makes any turn long.
 */
import { renameSync, writeFileSync } from "node:fs"

const file = process.env["HOLDFAST_TEST_TURNS"]

const cpuMillis = () => {
  const { system, user } = process.threadCpuUsage()
  return (system + user) / 1000
}

if (file !== undefined) {
  let last = cpuMillis()
  let worst = 0
  let resident = 0
  let told = 0
  const look = () => {
    const now = cpuMillis()
    worst = Math.max(worst, now - last)
    last = now
  }
  const measure = () => {
    resident = Math.max(resident, process.memoryUsage.rss())
  }
  setInterval(look, 1).unref()
  setInterval(measure, 10).unref()
  process.on("SIGUSR2", () => {
    look()
    measure()
    // A reader of the file finds all of it.
    writeFileSync(`${file}.new`, JSON.stringify({ told: ++told, worst, resident }))
    renameSync(`${file}.new`, file)
    worst = resident = 0
  })
}
