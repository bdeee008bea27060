/**
 * The backends that a `ConnectionPool` has, by what is being done with them. Keeps account, and does nothing.
 *
 * ```
 * slots = opening + all + being closed        all = lent + idle + asked
 * ```
 */
import type { Pooled } from "./ConnectionPoolBackend.ts"

/** Who waits for an answer for longer, in milliseconds, gets another connection, where there is room. */
const soon = 1000

export class Stock {
  /** Backends that the server may have of us: also those that are being opened or closed. */
  slots = 0
  /** As which role, if not as the source's own. */
  readonly opening: Array<string | undefined> = []
  readonly all = new Set<Pooled>()
  /** The one that was used last is the last. */
  readonly idle: Array<Pooled> = []
  /** And since when. */
  readonly asked = new Map<Pooled, number>()
  /** Those that are about to be closed. */
  private readonly retiring = new Set<Pooled>()

  rests(pooled: Pooled): void {
    this.idle.push(pooled)
  }

  /** It is idle no more. */
  leaves(pooled: Pooled): void {
    const at = this.idle.indexOf(pooled)
    if (at >= 0) this.idle.splice(at, 1)
  }

  /** It is going to be closed, whatever it answers. */
  retires(pooled: Pooled): void {
    this.leaves(pooled)
    this.asked.delete(pooled)
    if (this.all.has(pooled)) this.retiring.add(pooled)
  }

  /** It is being closed. */
  departs(pooled: Pooled): void {
    this.leaves(pooled)
    this.all.delete(pooled)
    this.asked.delete(pooled)
    this.retiring.delete(pooled)
  }

  opens(role: string | undefined): void {
    this.slots++
    this.opening.push(role)
  }

  /** It is open, or could not be opened. */
  opened(role: string | undefined): void {
    this.opening.splice(this.opening.indexOf(role), 1)
  }

  /** Those that are open and are going to stay, and those that will be. */
  staying(): number {
    return Array.from(this.all).filter(({ retirement }) => retirement === undefined).length + this.opening.length
  }

  /** The roles of those that were asked so lately that they may be there soon. */
  answering(now: number): ReadonlyArray<string | undefined> {
    return Array.from(this.asked)
      .filter(([, since]) => since > now - soon)
      .map(([{ role }]) => role)
  }

  /** Those whose places will be free. */
  leaving(): number {
    return this.retiring.size + Math.max(0, this.slots - this.opening.length - this.all.size)
  }

  /** Whether the server was heard of since then, on any of them or about it. */
  isHeardOf(since: number): boolean {
    return Array.from(this.all).some(({ connection }) => connection.heardAt() > since)
  }
}
