/**
 * Sessions as they were loaded lately, so that a load need not fetch again what did not change.
 *
 * An entry lives for a minute at most, and not beyond the limit in bytes. Nothing is believed because it stands here: each load
 * asks the database for the session's state and for the stamp of its row, which every write to the row changes.
 */
import * as Duration from "effect/Duration"
import type * as Schema from "effect/Schema"
import type { SessionRecord } from "./SessionRecord.ts"
import type { TokenHash } from "./SessionToken.ts"

/** A session, and the transaction that wrote its row (`xmin`). */
export interface Remembered {
  readonly record: SessionRecord
  readonly stamp: string
}

export interface PgSessionMemory {
  readonly get: (token: TokenHash) => Remembered | undefined
  /** Remembers a session of so many bytes, and makes it unchangeable, because many will share it. */
  readonly put: (token: TokenHash, remembered: Remembered, bytes: number) => void
}

/** The older of two generations is forgotten this often. */
const generation = Duration.toMillis(Duration.seconds(30))

/** About what an entry takes besides its data. */
const entryBytes = 500

const freeze = (value: Schema.Json): void => {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return
  Object.freeze(value)
  for (const part of Object.values(value)) freeze(part)
}

/** Makes a memory of up to `maxBytes`; `now` tells a time in milliseconds that nobody sets. */
export const make = (maxBytes: number, now: () => number): PgSessionMemory => {
  let young = new Map<TokenHash, Remembered>()
  let old = new Map<TokenHash, Remembered>()
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
