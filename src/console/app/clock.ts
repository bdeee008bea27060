/**
 * The time, for what shows how long something runs or is left. All that show it share one tick, so that they are drawn together. Nobody
 * is woken while the page is hidden.
 */
import { useEffect, useState } from "preact/hooks"

type Listener = (now: number) => void

/** Who follows the tick of each period. */
const followers = new Map<number, Set<Listener>>()

const follow = (every: number, listener: Listener): (() => void) => {
  const known = followers.get(every)
  const listeners = known ?? new Set()
  listeners.add(listener)
  if (known === undefined) {
    followers.set(every, listeners)
    const timer = setInterval(() => {
      if (listeners.size === 0) {
        clearInterval(timer)
        followers.delete(every)
      } else if (document.visibilityState === "visible") {
        const now = Date.now()
        for (const tell of listeners) tell(now)
      }
    }, every)
  }
  return () => void listeners.delete(listener)
}

/** Draws the component again so often, in milliseconds; never while `isOn` is false. Answers the time. */
export const useNow = (every: number, isOn = true): number => {
  const [now, setNow] = useState(() => Date.now())
  useEffect(() => (isOn ? follow(every, setNow) : undefined), [every, isOn])
  return now
}
