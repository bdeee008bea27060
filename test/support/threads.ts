/** What the threads of a process use, from outside, as Linux tells it. */
import { readdirSync, readFileSync } from "node:fs"
import { setTimeout as pause } from "node:timers/promises"

/** The processor time that each thread of a process has used so far, in nanoseconds. Empty when the process is gone. */
export const times = (pid: number): ReadonlyMap<number, number> => {
  const found = new Map<number, number>()
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      try {
        const [ran] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")
        found.set(Number(thread), Number(ran))
      } catch {
        // The thread has ended in the meantime.
      }
    }
  } catch {
    // The process has.
  }
  return found
}

/** The threads of a process that use most of the processor now, its first one not counted. */
export const busiest = async (pid: number, count: number): Promise<ReadonlyArray<number>> => {
  const before = times(pid)
  await pause(300)
  const busy = [...times(pid)]
    .map(([thread, ran]) => ({ thread, ran: ran - (before.get(thread) ?? 0) }))
    .filter(({ ran, thread }) => thread !== pid && ran > 10_000_000)
    .toSorted((a, b) => b.ran - a.ran)
    .slice(0, count)
    .map(({ thread }) => thread)
  // The machine may have had no time for them.
  return busy.length === count ? busy : busiest(pid, count)
}

/** Watches threads until `over`; answers when each was last seen to have used the processor, in milliseconds from now. */
export const lastUses = async (
  pid: number,
  threads: ReadonlyArray<number>,
  over: Promise<unknown>
): Promise<ReadonlyArray<number>> => {
  const begun = performance.now()
  const last = new Map(threads.map((thread) => [thread, 0]))
  const watching = { isOver: false }
  void over.then(() => (watching.isOver = true))
  let before = times(pid)
  while (!watching.isOver) {
    await pause(5)
    const now = times(pid)
    for (const thread of threads) {
      const ran = now.get(thread)
      if (ran !== undefined && ran !== before.get(thread)) last.set(thread, performance.now() - begun)
    }
    before = now
  }
  return [...last.values()]
}
