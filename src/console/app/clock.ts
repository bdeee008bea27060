/**
 * The time, for what shows how long something runs or is left. Nobody is woken while the page is hidden.
 */
import { useEffect, useState } from "preact/hooks"

/** Draws the component again so often, in milliseconds; never while `isOn` is false. Answers the time. */
export const useNow = (every: number, isOn = true): number => {
  const [now, setNow] = useState(() => Date.now())
  useEffect(() => {
    if (!isOn) return
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") setNow(Date.now())
    }, every)
    return () => clearInterval(timer)
  }, [every, isOn])
  return now
}
