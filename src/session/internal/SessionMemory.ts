/**
 * Sessions as they were loaded lately, so that a load need not fetch again what did not change.
 *
 * An entry lives for two generations at most, and not beyond the limit in bytes. A store believes nothing because it stands here:
 * each load asks the database for the session's state and for its stamp, which every write changes.
 */
import * as Duration from "effect/Duration"
import type * as Schema from "effect/Schema"
import type { SessionRecord } from "../SessionRecord.ts"
import type { TokenHash } from "../SessionToken.ts"

/** A session, and what the store changes whenever it writes it. */
export interface Remembered {
  readonly record: SessionRecord
  readonly stamp: string
}

export interface SessionMemory<R extends { readonly record: SessionRecord } = Remembered> {
  readonly get: (token: TokenHash) => R | undefined
  /** Remembers a session of so many bytes, and makes it unchangeable, because many will share it. */
  readonly put: (token: TokenHash, remembered: R, bytes: number) => void
}

/** The older of two generations is forgotten this often. */
const defaultGeneration = Duration.toMillis(Duration.seconds(30))

/** About what an entry takes besides its data. */
const entryBytes = 500

const freeze = (value: Schema.Json): void => {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return
  Object.freeze(value)
  for (const part of Object.values(value)) freeze(part)
}

/** Makes a memory of up to `maxBytes`; `now` tells a time in milliseconds that nobody sets, as `generation` is. */
export const make = <R extends { readonly record: SessionRecord } = Remembered>(
  maxBytes: number,
  now: () => number,
  generation = defaultGeneration
): SessionMemory<R> => {
  let young = new Map<TokenHash, R>()
  let old = new Map<TokenHash, R>()
  let bytes = 0
  let since = now()

  const turn = () => {
    old = young
    young = new Map()
    bytes = 0
    since = now()
  }

  return {
    get: (token) => {
      if (now() - since > generation) turn()
      return young.get(token) ?? old.get(token)
    },
    put: (token, remembered, size) => {
      if (size + entryBytes > maxBytes / 2) return
      if (bytes + size + entryBytes > maxBytes / 2) turn()
      bytes += size + entryBytes
      freeze(remembered.record.data)
      Object.freeze(remembered.record)
      young.set(token, remembered)
    }
  }
}
