/** What borrowers of a pool may count on: an answer in time, a fair turn, and a place that is free when it is given back. */
import type { ConnectionError } from "../../connection/ConnectionError.ts"
import { acquireTimeout, maxWaiting, type Server } from "./SimulatedPoolServer.ts"

/** One that asks for a connection, has one, or is done. */
export interface Borrower {
  readonly name: string
  readonly key: string
  readonly asked: number
  readonly failures: number
  /** Of its key, how many waited before it, or may have: who asks in the same instant may be first. */
  ahead: number
  /** When others who came later were served, by their keys. */
  readonly passedBy: Map<string, Array<number>>
}

/** What a place may be free for before somebody who waits has it. */
const soon = 1000

export class Borrowers {
  readonly server: Server
  /** Whether all want connections of one role, so that each can have any. */
  readonly isOneRole: boolean
  readonly waiting = new Set<Borrower>()
  leased = 0
  #fullUntil = -Infinity
  #count = 0

  constructor(server: Server, isOneRole: boolean) {
    this.server = server
    this.isOneRole = isOneRole
  }

  asks(key: string): Borrower {
    const { failures, now } = this.server
    const others = Array.from(this.waiting).filter((other) => other.key === key)
    for (const other of others) if (other.asked === now) other.ahead++
    const name = `borrower ${++this.#count}`
    const borrower: Borrower = { name, key, asked: now, failures, ahead: others.length, passedBy: new Map() }
    this.waiting.add(borrower)
    return borrower
  }

  /** It waits no longer, whatever came of it. */
  stops(borrower: Borrower): void {
    this.waiting.delete(borrower)
  }

  has(borrower: Borrower, id: string, role: string | undefined): void {
    const { limits, now, world } = this.server
    this.stops(borrower)
    this.leased++
    const { asked, key, name } = borrower
    if (this.leased > limits.max) world.broke("no more are lent than may be", `${this.leased} of ${limits.max}`)
    this.#mark()
    const given = this.server.backends.get(id)
    if (given !== undefined && given.role !== role)
      world.broke(
        "I2 a connection is lent to its role alone",
        `connection ${id} of ${String(given.role)} as ${String(role)}`
      )
    if (now - asked > acquireTimeout)
      world.broke("C5 every borrower has its answer in time", `${name} has a connection after ${now - asked} ms`)
    for (const other of this.waiting) {
      if (other.asked >= asked) continue
      other.passedBy.set(key, [...(other.passedBy.get(key) ?? []), now])
    }
    if (!this.isOneRole) return
    for (const [theirs, times] of borrower.passedBy) {
      const passed = times.filter((at) => at < now).length
      const most = theirs === key ? 0 : borrower.ahead + 1
      if (passed > most)
        world.broke(
          "permits go in turn between keys",
          `${name} of ${key}, with ${borrower.ahead} before it, was passed by ${passed} of ${theirs}`
        )
    }
  }

  gaveBack(): void {
    this.#mark()
    this.leased--
  }

  #mark(): void {
    if (this.leased >= this.server.limits.max) this.#fullUntil = this.server.now
  }

  refused(borrower: Borrower, { reason }: ConnectionError): void {
    const { now, world } = this.server
    this.stops(borrower)
    const waited = now - borrower.asked
    const told = `${borrower.name}: ${reason._tag} after ${waited} ms`
    if (waited > acquireTimeout) world.broke("C5 every borrower has its answer in time", told)
    switch (reason._tag) {
      case "Closed":
        if (this.server.closingSince === undefined) world.broke("a pool that is open is closed to nobody", told)
        return
      case "Unavailable":
      case "NoRoom":
        // A connection that could not be opened, and nothing else, is a reason to have none.
        if (this.server.failures === borrower.failures && !this.server.isTroubledFor(61_000))
          world.broke("a borrower is told of faults that there are", told)
        return
      case "TooManyWaiters":
        if (this.waiting.size < maxWaiting) world.broke("nobody is refused where there is room to wait", told)
        return
      case "AcquireTimeout": {
        if (waited < acquireTimeout) world.broke("C5 nobody is refused before its time", told)
        if (this.leased >= this.server.limits.max) this.#mark()
        const free = now - Math.max(borrower.asked, this.#fullUntil)
        if (free > soon && !this.server.isTroubledFor(soon))
          world.broke(
            "C4 nobody waits while a place is free",
            `${told}, with ${this.leased} lent, and one free for ${free} ms`
          )
        return
      }
      default:
        world.broke("a borrower is told why it has no connection", told)
    }
  }
}
