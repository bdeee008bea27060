/** The processor time of a PostgreSQL server on this machine, read where the system shows it (Linux). */
import { readFileSync } from "node:fs"

/** Milliseconds that these processes have used; NaN where the system does not say. */
export const cpuOf = (pids: ReadonlyArray<number>): number => {
  let ticks = 0
  for (const pid of pids) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "latin1")
      const [user, system] = stat
        .slice(stat.lastIndexOf(")") + 2)
        .split(" ")
        .slice(11, 13)
      ticks += Number(user) + Number(system)
    } catch {
      return Number.NaN
    }
  }
  // The unit of /proc is a hundredth of a second on every Linux there is.
  return ticks * 10
}
