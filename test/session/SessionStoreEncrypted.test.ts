import * as Redacted from "effect/Redacted"
import type * as SessionCipher from "../../src/session/SessionCipher.ts"
import * as SessionStoreLaws from "../../src/testing/SessionStoreLaws.ts"
import { postgres, redis } from "../support/storeClocks.ts"

/** The laws in which data is written and read. The others know nothing of it. */
const only = [
  "S1 what one instance wrote another reads right after",
  "S1 data comes back as it was written, to the character",
  "S2 of parallel updates of one version exactly one takes effect, and the others are told",
  "S6 a login puts a new token in the place of all others, at once",
  "S6 a rotation puts a new token in the place of all others, at once, and changes nothing else",
  "a list holds the live sessions, the newest first",
  "visitors' sessions are told a page at a time, and nobody else's"
]

const key = (id: string, byte: number): SessionCipher.Key => ({
  id,
  secret: Redacted.make(Buffer.alloc(32, byte).toString("base64"))
})
const keys = [key("one", 1), key("two", 2)]
const anotherInFront = (instance: number) => ({ keys: instance === 0 ? keys : keys.toReversed() })

SessionStoreLaws.run(
  postgres(anotherInFront),
  { name: "PgSessionStore, each instance with another key in front", clock: "server" },
  { only }
)

SessionStoreLaws.run(
  redis(anotherInFront),
  { name: "RedisSessionStore, each instance with another key in front", clock: "server" },
  { only }
)
