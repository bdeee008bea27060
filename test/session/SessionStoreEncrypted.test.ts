import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as SessionCipher from "../../src/session/SessionCipher.ts"
import * as RedisSessions from "../support/redisSessions.ts"
import * as PgSessions from "../support/sessions.ts"
import { sessionStoreLaws } from "./sessionStoreLaws.ts"

/** The laws in which data is written and read. The others know nothing of it. */
const ofData = new Set([
  "S1 what one instance wrote another reads right after",
  "S1 data comes back as it was written, to the character",
  "S2 of parallel updates of one version exactly one takes effect, and the others are told",
  "S6 a login puts a new token in the place of all others, at once",
  "S6 a rotation puts a new token in the place of all others, at once, and changes nothing else",
  "a list holds the live sessions, the newest first",
  "visitors' sessions are told a page at a time, and nobody else's"
])

const key = (id: string, byte: number): SessionCipher.Key => ({
  id,
  secret: Redacted.make(Buffer.alloc(32, byte).toString("base64"))
})
const keys = [key("one", 1), key("two", 2)]
const declared: Array<string> = []

sessionStoreLaws("PgSessionStore, each instance with another key in front", (name, body) => {
  if (!ofData.has(name)) return
  declared.push(name)
  it.live(name, () =>
    Effect.gen(function* () {
      const world = yield* PgSessions.pgWorld
      const store = yield* PgSessions.instance({ url: world.url, keys })
      const another = yield* PgSessions.instance({ url: world.url, keys: keys.toReversed() })
      yield* body({ store, another, advance: world.advance })
    })
  )
})

sessionStoreLaws("RedisSessionStore, each instance with another key in front", (name, body) => {
  if (!ofData.has(name)) return
  it.live(name, () =>
    Effect.gen(function* () {
      const { advance, prefix, url } = yield* RedisSessions.redisWorld
      const store = yield* RedisSessions.instance({ url, prefix, keys })
      const another = yield* RedisSessions.instance({ url, prefix, keys: keys.toReversed() })
      yield* body({ store, another, advance })
    })
  )
})

it("the laws that are tried with keys are there", () => {
  assert.sameMembers(declared, Array.from(ofData))
})
