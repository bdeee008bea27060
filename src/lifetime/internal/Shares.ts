/**
 * How much of something principals may have: each of them, and all together, so that whatever some fill, others keep a share
 * (law I3).
 *
 * An account lives as long as the registry or store that it belongs to. What is added is to be taken off again.
 *
 * **Details**
 *
 * What one principal may not have, up to a quarter of all, is cut into equal shares: so many principals each find room for
 * theirs, whatever the others hold. What principals have beyond a share comes out of the rest, and there each may have twice as
 * much as is then left: the more of it is used, the less is for one (a dynamic threshold: Choudhury and Hahne, IEEE/ACM
 * Transactions on Networking 6/2, 1998). So it is never used up, and nothing that somebody has is taken away for others.
 */

/** How much there is, in whatever it is counted. */
export interface Limits {
  readonly all: number
  readonly ofPrincipal: number
  /** How many principals each find room for their share. */
  readonly shares: number
}

/** How much of the common part one principal may have, of what is then left of it. */
const threshold = 2

export class Shares {
  /** What each of so many principals finds room for. */
  readonly share: number
  private readonly limits: Limits
  private readonly common: number
  private readonly held = new Map<string, number>()
  private beyond = 0
  private sum = 0

  constructor(limits: Limits) {
    const { all, ofPrincipal, shares } = limits
    this.limits = limits
    this.share = Math.floor(Math.max(Math.min(all - ofPrincipal, all / 4), 0) / shares)
    this.common = all - this.share * shares
  }

  /** What all have. */
  get total(): number {
    return this.sum
  }

  of(principal: string): number {
    return this.held.get(principal) ?? 0
  }

  private beyondShare(amount: number): number {
    return Math.max(amount - this.share, 0)
  }

  /** Whether that much more is more than a principal may have. */
  exceedsOwn(principal: string, more: number): boolean {
    return this.of(principal) + more > this.limits.ofPrincipal
  }

  /** Whether there is no room for that much more of a principal's. */
  exceedsAll(principal: string, more: number): boolean {
    if (this.sum + more > this.limits.all) return true
    const has = this.of(principal)
    const beyond = this.beyondShare(has + more)
    if (beyond === 0 || this.share === 0) return false
    const left = this.common - (this.beyond - this.beyondShare(has) + beyond)
    return beyond > threshold * left
  }

  /** Takes note of more of a principal's, or of less. */
  add(principal: string, amount: number): void {
    const had = this.of(principal)
    const has = Math.max(had + amount, 0)
    this.beyond += this.beyondShare(has) - this.beyondShare(had)
    this.sum += has - had
    if (has > 0) this.held.set(principal, has)
    else this.held.delete(principal)
  }
}
