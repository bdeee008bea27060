/**
 * Sessions in Redis as the version of the store before this one wrote them: a hash for each session and each token, a string for what
 * a session holds, two sorted sets for a principal's and one for all.
 */
import * as Effect from "effect/Effect"
import * as SessionId from "../../src/session/SessionId.ts"
import type { TokenHash } from "../../src/session/SessionToken.ts"
import { newToken } from "../../src/testing/internal/SessionSamples.ts"
import type { Client } from "./redis.ts"

/** What differs from a session of alice's that was just created. */
export interface Older {
  readonly principal?: string | null
  /** Its tokens, from the first to the last; each took the place of the one before. */
  readonly tokens?: ReadonlyArray<TokenHash>
  /** Fields of the session, and of the token of that number. */
  readonly session?: Readonly<Record<string, string>>
  readonly token?: Readonly<Record<number, Readonly<Record<string, string>>>>
  /** How long ago, in milliseconds, it was created, and ended. */
  readonly age?: number
  readonly endedAge?: number
  /** Whether it is none of its principal's any more, as one that was found to have expired. */
  readonly dropped?: boolean
}

/** Writes one. */
export const older = Effect.fnUntraced(function* ({ send }: Client, prefix: string, options: Older = {}) {
  const { age = 0, dropped, endedAge, principal = "alice", tokens = [newToken()] } = options
  const id = SessionId.make()
  const time = yield* send("TIME")
  const [seconds = 0, micros = 0] = Array.isArray(time) ? time.map(Number) : []
  const now = seconds * 1000 + Math.floor(micros / 1000) - age
  const moment = String(seconds * 1_000_000 + micros - age * 1000)
  const [first, last] = [tokens.at(0) ?? "", tokens.at(-1) ?? ""]
  const isOver = endedAge !== undefined
  const ended = isOver ? String(now + age - endedAge) : undefined
  const written = {
    stamp: isOver || dropped === true ? "0" : moment,
    dataVersion: "1",
    version: "1",
    createdAt: String(now),
    lastSeenAt: String(now),
    idle: "1800000",
    touch: "60000",
    renew: "3600000",
    expiresAt: String(now + 43_200_000),
    era: "1",
    first,
    last,
    ...(principal !== null && { principal }),
    ...(ended !== undefined && { endedAt: ended }),
    ...options.session
  }
  yield* send("HSET", `${prefix}:session:${id}`, ...Object.entries(written).flat())
  if (!isOver) yield* send("SET", `${prefix}:content:${id}`, '{"ip":"192.0.2.1"}\n{"cart":[]}')
  for (const [index, token] of tokens.entries()) {
    const next = tokens[index + 1]
    const held = { session: id, issuedAt: String(now), nonce: "x".repeat(43), era: "1", ...options.token?.[index] }
    const successor = next === undefined ? [] : ["successor", next]
    yield* send("HSET", `${prefix}:token:${token}`, ...Object.entries(held).flat(), ...successor)
  }
  yield* send("ZADD", `${prefix}:ends`, ended ?? written.expiresAt, id)
  if (principal !== null && !isOver && dropped !== true) {
    yield* send("ZADD", `${prefix}:sessions-of:${principal}`, moment, id)
    yield* send("ZADD", `${prefix}:deadlines-of:${principal}`, String(now + 1_860_000), id)
  }
  return { id, tokens, token: tokens[0] ?? newToken() }
})
