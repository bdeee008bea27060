/**
 * Hears of sessions that ended, on a subscription of its own.
 *
 * It listens from when it is made until its scope closes. What is told while the subscription is lost is not heard; so each
 * time it is there again, readers are told to ask about everything (`Unknown`).
 */
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type * as RedisConnection from "../RedisConnection.ts"
import { SessionId } from "../../session/SessionId.ts"
import type { Ended } from "../../session/SessionStore.ts"

/** Where to listen. */
export interface Options {
  readonly connection: Pick<RedisConnection.RedisConnection, "listen">
  readonly channel: string
}

/** How many hints a reader may be behind. What is lost then, it finds by polling. */
const hints = 16_384

const isSessionId = Schema.is(SessionId)

/** The ids in a message. A client that can publish can forge one, so what is no id is left out. */
const endedIn = (text: string): ReadonlyArray<Ended> =>
  text.split(" ").flatMap((id) => (isSessionId(id) ? [{ _tag: "Session" as const, id }] : []))

/** Listens until the scope closes; a reader hears everything from when it began to read. */
export const make = Effect.fnUntraced(function* ({ channel, connection }: Options) {
  const ended = yield* PubSub.sliding<Ended>(hints)
  const hear = (heard: RedisConnection.Heard): Effect.Effect<void> => {
    if (heard._tag === "Message") return Effect.asVoid(PubSub.publishAll(ended, endedIn(heard.text)))
    if (heard._tag === "Lost") return Effect.void
    return Effect.asVoid(PubSub.publish(ended, { _tag: "Unknown" }))
  }
  yield* Effect.forkScoped(connection.listen(channel, hear), { startImmediately: true })
  return Stream.fromPubSub(ended)
})
