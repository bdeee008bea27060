/**
 * Undoing what a server did to a body to send fewer bytes (RFC 9110, 8.4). A decoder is begun with the first bytes, because a
 * body may be empty and because deflate has two forms, and ends with its exchange.
 */
import type { Transform } from "node:stream"
import * as Zlib from "node:zlib"

/** What is asked for, in the order of how well it does. */
export const accepted = "gzip, deflate, br, zstd"

/** Who gets what is decoded. Nothing is called after `ended` or `failed`. */
export interface Sink {
  readonly decoded: (bytes: Uint8Array) => void
  readonly ended: () => void
  readonly failed: (problem: string) => void
  /** There is room for more. */
  readonly drained: () => void
}

export interface Decoder {
  /** False when `drained` is to be waited for. */
  readonly write: (bytes: Uint8Array) => boolean
  readonly end: () => void
  readonly pause: () => void
  readonly resume: () => void
  readonly destroy: () => void
}

const transforms: Record<string, (first: number) => Transform> = {
  gzip: () => Zlib.createGunzip(),
  "x-gzip": () => Zlib.createGunzip(),
  br: () => Zlib.createBrotliDecompress(),
  zstd: () => Zlib.createZstdDecompress(),
  // Some servers leave out the header that RFC 1950 wants: its first byte says 8 for the method.
  deflate: (first) => ((first & 0x0f) === 0x08 ? Zlib.createInflate() : Zlib.createInflateRaw())
}

/** More than two have no use but to make work. */
const most = 2

/** The codings in the order in which they were applied; or what is wrong with them. */
export const codingsOf = (header: string | undefined): ReadonlyArray<string> | string => {
  if (header === undefined) return []
  const codings = header
    .split(",")
    .map((coding) => coding.trim().toLowerCase())
    .filter((coding) => coding !== "" && coding !== "identity")
  return codings.length > most || codings.some((coding) => !Object.hasOwn(transforms, coding))
    ? "its body is in a coding that was not asked for"
    : codings
}

/** Begins to decode a body whose first byte is known. */
export const make = (codings: ReadonlyArray<string>, first: number, sink: Sink): Decoder => {
  let isOver = false
  // The outermost was applied last. Only the innermost sees the form of the body, so two codings read deflate as RFC 1950 has it.
  const chain = codings.toReversed().map((coding, index) => transforms[coding]!(index === 0 ? first : 0x08))
  const destroy = () => {
    isOver = true
    for (const transform of chain) transform.destroy()
  }
  const fail = () => {
    if (isOver) return
    destroy()
    sink.failed(`its body is not valid ${codings.join(", ")}`)
  }
  chain.forEach((transform, index) => {
    transform.on("error", fail)
    const next = chain[index + 1]
    if (next !== undefined) transform.pipe(next)
  })
  const outermost = chain[0]!
  const innermost = chain.at(-1)!
  outermost.on("drain", sink.drained)
  innermost.on("data", (bytes: Uint8Array) => {
    if (!isOver) sink.decoded(bytes)
  })
  innermost.on("end", () => {
    if (isOver) return
    isOver = true
    sink.ended()
  })
  return {
    write: (bytes) => outermost.write(bytes),
    end: () => outermost.end(),
    pause: () => innermost.pause(),
    resume: () => innermost.resume(),
    destroy
  }
}
