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

const transforms = {
  gzip: () => Zlib.createGunzip(),
  "x-gzip": () => Zlib.createGunzip(),
  br: () => Zlib.createBrotliDecompress(),
  zstd: () => Zlib.createZstdDecompress(),
  // Some servers leave out the header that RFC 1950 wants: its first byte says 8 for the method.
  deflate: (first: number) => ((first & 0x0f) === 0x08 ? Zlib.createInflate() : Zlib.createInflateRaw())
} satisfies Record<string, (first: number) => Transform>

type Coding = keyof typeof transforms

const isCoding = (name: string): name is Coding => Object.hasOwn(transforms, name)

/** One coding, or two of which `inner` was applied first. More have no use but to make work. */
export interface Codings {
  readonly outer: Coding
  readonly inner: Coding | undefined
}

/** The codings of a body; undefined for none, and what is wrong with them where they cannot be undone. */
export const codingsOf = (header: string | undefined): Codings | string | undefined => {
  const names = (header ?? "")
    .split(",")
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== "" && name !== "identity")
  const [outer, inner] = names.toReversed()
  if (outer === undefined) return undefined
  const isKnown = names.length <= 2 && isCoding(outer) && (inner === undefined || isCoding(inner))
  return isKnown ? { outer, inner } : "its body is in a coding that was not asked for"
}

/** Begins to decode a body whose first byte is known. */
export const make = (codings: Codings, first: number, sink: Sink): Decoder => {
  let isOver = false
  const outermost = transforms[codings.outer](first)
  // The first byte of the inner one is not known yet; deflate in something else is read as RFC 1950 has it.
  const innermost = codings.inner === undefined ? outermost : outermost.pipe(transforms[codings.inner](0x08))
  const destroy = () => {
    isOver = true
    outermost.destroy()
    innermost.destroy()
  }
  for (const transform of new Set<Transform>([outermost, innermost])) {
    transform.on("error", () => {
      if (isOver) return
      destroy()
      sink.failed(`its body is not valid ${codings.inner === undefined ? "" : `${codings.inner}, `}${codings.outer}`)
    })
  }
  outermost.on("drain", () => sink.drained())
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
