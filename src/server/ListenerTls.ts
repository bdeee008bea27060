/**
 * TLS of the service itself: a certificate and its key, from files, and what replaces them.
 *
 * The files are looked at every two seconds, for as long as the scope of the server. New ones count for connections that are opened
 * from then on. While they make no sense, such as a certificate whose key is not written yet, the last ones stay, and the log says so
 * once.
 */
import { X509Certificate } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { readFileSync } from "node:fs"
import type { Server } from "node:https"
import { createSecureContext } from "node:tls"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"

/** Paths of files in PEM. The certificate is followed by those of its authorities, but for the root. */
export interface Files {
  readonly cert: string
  readonly key: string
}

/** What is in the files. */
export interface Pair {
  readonly cert: string
  readonly key: string
}

const lookEvery = "2 seconds"

/** Reads the files; throws what is wrong with them. */
export const read = ({ cert, key }: Files): Pair => {
  const pair = { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") }
  // An empty file is a context without a certificate.
  void new X509Certificate(pair.cert)
  createSecureContext(pair)
  return pair
}

/** What is wrong with the files. */
export const problemOf = (files: Files): string | undefined => {
  try {
    read(files)
    return undefined
  } catch (cause) {
    return cause instanceof Error ? cause.message : String(cause)
  }
}

/** Looks at the files until the scope closes. */
export const reload = (server: Server, files: Files, used: Pair) =>
  Effect.gen(function* () {
    let last = used
    let told: string | undefined
    const look = Effect.suspend(() => {
      try {
        const next = read(files)
        told = undefined
        if (next.cert === last.cert && next.key === last.key) return Effect.void
        server.setSecureContext(next)
        last = next
        return LogEvent.info({ event: "tls.reloaded" }, "The certificate was replaced")
      } catch (cause) {
        const why = cause instanceof Error ? cause.message : String(cause)
        if (told === why) return Effect.void
        told = why
        return LogEvent.warning({ event: "tls.kept", why }, "The new certificate makes no sense, so the last one stays")
      }
    })
    yield* Effect.forkScoped(Effect.repeat(look, Schedule.spaced(lookEvery)))
  })
