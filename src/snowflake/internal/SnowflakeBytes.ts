/**
 * A body that comes piece by piece, in one buffer: a piece is let go of as soon as it came, and none of them lies in memory until
 * all are there.
 */
import { Buffer } from "node:buffer"

const leastBytes = 16 * 1024

export class Gathering {
  private bytes: Buffer<ArrayBuffer>
  private length = 0

  /** For about so many bytes; it grows where there are more. */
  constructor(expectedBytes: number) {
    this.bytes = Buffer.from(new ArrayBuffer(Math.max(expectedBytes, leastBytes)))
  }

  add(piece: Uint8Array): void {
    const length = this.length + piece.length
    if (length > this.bytes.length) this.resize(Math.max(length, 2 * this.bytes.length))
    this.bytes.set(piece, this.length)
    this.length = length
  }

  /** All of it, in memory of its own. Nothing can be added any more. */
  end(): Buffer<ArrayBuffer> {
    if (this.length < this.bytes.length) this.resize(this.length)
    return this.bytes
  }

  private resize(length: number): void {
    this.bytes = Buffer.from(this.bytes.buffer.transfer(length))
  }
}
