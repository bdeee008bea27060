/**
 * Loaded into each program that a test starts: it ends when the test's process is gone, as after Ctrl-C.
 */
import { isMainThread } from "node:worker_threads"

if (isMainThread) {
  const parent = process.ppid
  setInterval(() => {
    if (process.ppid !== parent) process.kill(process.pid, "SIGTERM")
  }, 500).unref()
}
