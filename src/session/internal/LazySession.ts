/**
 * A handle on a session that is made when the first is asked of it.
 *
 * It lives as long as the handle that it makes. Most requests ask nothing of their session, and a handle that nobody asks costs
 * nothing but its place.
 */
import type { Session } from "./SessionHandle.ts"

/** Everything that a handle offers; the compiler sees to it that nothing is missing. */
const members: Record<keyof Session<unknown>, true> = {
  record: true,
  id: true,
  principal: true,
  authenticatedAt: true,
  data: true,
  versioned: true,
  quarantined: true,
  lifetime: true,
  modify: true,
  replace: true,
  authenticate: true,
  renew: true,
  rotate: true,
  setExpiry: true,
  touch: true,
  logout: true,
  devices: true,
  revoke: true,
  revokeOthers: true,
  run: true,
  provide: true
}

class Lazy {
  readonly make: () => Session<unknown>
  made: Session<unknown> | undefined = undefined
  constructor(make: () => Session<unknown>) {
    this.make = make
  }
}

for (const name of Object.keys(members) as ReadonlyArray<keyof Session<unknown>>) {
  Object.defineProperty(Lazy.prototype, name, {
    get(this: Lazy) {
      return (this.made ??= this.make())[name]
    }
  })
}

/** A handle that `make` makes, once. */
export const make = <Data>(make: () => Session<Data>): Session<Data> =>
  new Lazy(make as () => Session<unknown>) as object as Session<Data>
