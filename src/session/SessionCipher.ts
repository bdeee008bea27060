/**
 * How the data of sessions is encrypted where a store keeps it: AES-256-GCM (NIST SP 800-38D) under a ring of keys.
 *
 * A cipher lives as long as its store; the keys come from the program's configuration and never reach the place where the
 * sessions are. It hides what an app puts into its sessions from readers of that place, of a copy or of a log. Ids, principals,
 * devices, versions and times stay as they are, because the store works with them; of tokens it has hashes only.
 *
 * **Details**
 *
 * The first key of the ring encrypts, all of them decrypt. What was stored before there was a key is read as well. Both are
 * written under the first key with the next change of the data. A session's data is bound to the session's id and opens in no other
 * session. Each session has a key of its own, derived from the ring's, so that no number of writes uses a key up.
 *
 * Data under a key that is not in the ring is never discarded, whatever a session class does with data that it cannot read: the
 * operation fails with `SessionsUnavailable`, and the log names the key, once.
 *
 * **Gotchas**
 *
 * Versions of Holdfast that know no keys take encrypted data for data that they cannot read. Give the keys when none of them runs
 * any more.
 *
 * To rotate, where several instances run: give the new key to all of them in second place, then put it in front, and remove the old
 * one an absolute timeout later. Sessions that nobody changed are over by then.
 */
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as KeyRing from "../cipher/KeyRing.ts"
import { SessionError, SessionsUnavailable, SessionUndecodable } from "./SessionError.ts"

/** A key of the ring. */
export interface Key {
  /** Names it, in 1 to 64 letters, digits, `-` and `_`. Not secret; never give another key the name of an old one. */
  readonly id: string
  /** 32 random bytes in base64 or base64url, as by `openssl rand -base64 32`. */
  readonly secret: Redacted.Redacted
}

/** The keys of a ring make no sense. */
export class SessionKeysInvalid extends Schema.TaggedError<SessionKeysInvalid>(
  "holdfast/session/SessionCipher/SessionKeysInvalid"
)("SessionKeysInvalid", { problem: Schema.String }) {
  override get message(): string {
    return `The keys of the sessions ${this.problem}`
  }
}

export interface SessionCipher {
  /** What a store keeps of a session's data, given as JSON text: JSON text again. */
  readonly seal: (id: string, json: string) => string
  /** The data as JSON text; what was never sealed is returned as it is. */
  readonly open: (id: string, kept: string) => Result.Result<string, SessionError>
}

const format = { format: 2, purpose: "holdfast session data" }

/** A string of JSON behind a blank, which no data begins with: that is written without any. */
const begin = ' "sealed:'
const end = '"'

/** Names of keys in the log: who can write to the store can make up any number of them. */
const mostTold = 100

const because = (reason: SessionError["reason"]) => Result.fail(new SessionError({ reason }))

/**
 * Makes the cipher of a store; without keys nothing is encrypted. Fails with `SessionKeysInvalid`, which names the key, where
 * a ring makes no sense.
 */
export const make = Effect.fnUntraced(function* (
  keys: ReadonlyArray<Key> = []
): Effect.fn.Return<SessionCipher, SessionKeysInvalid> {
  const run = Effect.runForkWith(yield* Effect.context<never>())
  const ring =
    keys.length === 0
      ? undefined
      : yield* Effect.fromResult(
          Result.mapError(KeyRing.make(keys, format), (problem) => new SessionKeysInvalid({ problem }))
        )
  const reader = ring ?? KeyRing.withoutKeys(format)
  const told = new Set<string>()

  const missing = (key: string) => {
    const sentence = `Data of sessions is encrypted under the key ${key}, which is not among the keys given. Give it again; nothing is lost`
    if (!told.has(key) && told.size < mostTold) {
      told.add(key)
      run(LogEvent.error({ event: "session.key_missing", key }, `${sentence}.`))
    }
    return because(new SessionsUnavailable({ cause: new Error(sentence) }))
  }

  return {
    seal: (id, json) => (ring === undefined ? json : `${begin}${ring.seal(id, json).toString("base64url")}${end}`),
    open: (id, kept) => {
      if (!kept.startsWith(begin)) return Result.succeed(kept)
      const opened = reader.open(id, Buffer.from(kept.slice(begin.length, -end.length), "base64url"))
      switch (opened._tag) {
        case "Opened":
          return Result.succeed(opened.text)
        case "KeyMissing":
          return missing(opened.id)
        case "Refused":
          return because(
            new SessionUndecodable({ problem: `the data of session ${id} was changed or moved in the store` })
          )
      }
    }
  }
})
