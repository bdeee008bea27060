/**
 * Whether somebody sits in front of the page. Asking the service is activity of the session: a page that nobody looks at must not
 * keep its session alive.
 */
import * as Store from "./store.ts"

const idleAfter = 60_000

/** Whether something was done on the page within the last minute, and it is seen. */
export const isActive = Store.make(true)

let last = Date.now()
const look = () => isActive.set(document.visibilityState === "visible" && Date.now() - last < idleAfter)
const act = () => {
  last = Date.now()
  look()
}
for (const event of ["pointerdown", "pointermove", "keydown", "wheel"]) addEventListener(event, act, { passive: true })
document.addEventListener("visibilitychange", look)
setInterval(look, 1000)
