/**
 * One direction of a connection through a proxy: what arrives on one socket is written to the other, late, slowly or in other
 * pieces, and always in its order.
 */
import type { Socket } from "node:net"

/** How pieces travel. */
export interface Travel {
  /** How many milliseconds late each byte arrives. Default: 0. */
  readonly delay?: number | undefined
  /** Bytes a second. Default: as fast as they come. */
  readonly throttle?: number | undefined
  /** No piece is longer: each is a packet of its own. */
  readonly split?: number | undefined
  /** What comes within so many milliseconds arrives at once, in one piece. */
  readonly coalesce?: number | undefined
  /** The connection is reset when the server has sent so many bytes. */
  readonly cutAfter?: number | undefined
}

interface Due {
  readonly at: number
  readonly piece: Buffer
}

export class FaultPipe {
  private readonly to: Socket
  private readonly travel: Travel
  private readonly waiting: Array<Due> = []
  private timer: NodeJS.Timeout | undefined
  /** When the last byte arrives. */
  private busyUntil = 0
  private windowEnd = 0
  private isEnding = false

  constructor(to: Socket, travel: Travel) {
    this.to = to
    this.travel = travel
    to.on("close", () => clearTimeout(this.timer))
  }

  private get isPlain(): boolean {
    const { coalesce, delay = 0, split, throttle } = this.travel
    return delay === 0 && throttle === undefined && split === undefined && coalesce === undefined
  }

  push(bytes: Buffer): void {
    if (this.isPlain) {
      if (!this.to.destroyed) this.to.write(bytes)
      return
    }
    const { coalesce = 0, delay = 0, split = bytes.length, throttle } = this.travel
    const now = performance.now()
    if (coalesce > 0 && now >= this.windowEnd) this.windowEnd = now + coalesce
    for (let at = 0; at < bytes.length; at += split) {
      const piece = bytes.subarray(at, at + split)
      const travels = throttle === undefined ? 0 : (piece.length / throttle) * 1000
      this.busyUntil = Math.max(this.busyUntil, now + delay, coalesce > 0 ? this.windowEnd : 0) + travels
      this.waiting.push({ at: this.busyUntil, piece })
    }
    this.plan()
  }

  /** The other side has closed: what is under way arrives, and then the end. */
  end(): void {
    this.isEnding = true
    if (this.waiting.length === 0) this.to.destroy()
  }

  private plan(): void {
    const [first] = this.waiting
    if (first === undefined || this.timer !== undefined) return
    this.timer = setTimeout(() => this.deliver(), Math.max(first.at - performance.now(), 0))
  }

  private deliver(): void {
    this.timer = undefined
    const now = performance.now()
    const pieces: Array<Buffer> = []
    while (this.waiting[0] !== undefined && this.waiting[0].at <= now) {
      pieces.push((this.waiting.shift() as Due).piece)
      // A piece that is to be a packet of its own waits until the one before has left.
      if (this.travel.split !== undefined) break
    }
    if (pieces.length > 0 && !this.to.destroyed) this.to.write(Buffer.concat(pieces))
    if (this.waiting.length > 0) this.plan()
    else if (this.isEnding) this.to.destroy()
  }
}
