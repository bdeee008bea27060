/**
 * Hears of sessions that ended, on a connection of its own, see `PgListener`.
 *
 * It listens as long as the scope it was made in. While it cannot, hints are lost; so each time it listens again, readers are told
 * to ask about everything (`Unknown`).
 */
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as PgListener from "./PgListener.ts"
import { SessionId } from "../../session/SessionId.ts"
import type { Ended } from "../../session/SessionStore.ts"

/** Where to listen. */
export type Options = Pick<PgListener.Options, "connection" | "channel" | "checkInterval" | "answerWithin" | "id">

/** How many hints a reader may be behind. What is lost then, it finds by polling. */
const hints = 16_384

const isSessionId = Schema.is(SessionId)

/** Listens until the scope closes; a reader hears everything from when it began to read. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const ended = yield* PubSub.sliding<Ended>(hints)
  yield* PgListener.make({
    ...options,
    of: "sessions",
    hears: "the ends of sessions",
    kind: "session listener",
    told: (notifications) =>
      PubSub.publishAll(
        ended,
        notifications.flatMap(({ payload }) =>
          isSessionId(payload) ? [{ _tag: "Session" as const, id: payload }] : []
        )
      ),
    listens: () => PubSub.publish(ended, { _tag: "Unknown" })
  })
  return Stream.fromPubSub(ended)
})
