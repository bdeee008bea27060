/**
 * Closes connections whose readers take nothing of what they asked for.
 *
 * A connection is watched from its first request until it is closed. If it has bytes to send, and none of them is taken for the
 * limit, it is closed, and all that is held for it is freed. A connection that has nothing to send may be silent. Bytes count in
 * pieces of about 64 KiB, but for the last piece.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import type { Socket } from "node:net"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"

/** How often it is looked at a connection within the limit. A loop that is busy looks later, and counts the less. */
const looks = 6

const count = Metric.counter("holdfast_http_slow_readers_total", {
  description: "Connections closed because nothing of an answer was taken",
  incremental: true
})

/** What was taken when it was looked last, and how often nothing more was. */
interface Watched {
  taken: number
  idle: number
}

export class SlowReaders extends Context.Service<SlowReaders, { readonly watch: (socket: Socket) => void }>()(
  "holdfast/server/SlowReaders"
) {}

const make = (limit: Duration.Duration) =>
  Effect.gen(function* () {
    const watched = new Map<Socket, Watched>()
    const isSlow = (socket: Socket, last: Watched): boolean => {
      const { bytesWritten, writableLength } = socket
      const taken = bytesWritten - writableLength
      last.idle = writableLength === 0 || taken !== last.taken ? 0 : last.idle + 1
      last.taken = taken
      return last.idle >= looks
    }
    const look = Effect.suspend(() => {
      const slow = Array.from(watched).filter(([socket, last]) => isSlow(socket, last))
      if (slow.length === 0) return Effect.void
      for (const [socket] of slow) socket.destroy()
      return Effect.andThen(
        Metric.update(count, slow.length),
        LogEvent.warning(
          { event: "http.slow_readers", count: slow.length },
          `${slow.length} connections were closed: their readers took nothing of an answer for ${Duration.format(limit)}.`
        )
      )
    })
    yield* Effect.forkScoped(Effect.repeat(look, Schedule.spaced(Duration.millis(Duration.toMillis(limit) / looks))))
    return SlowReaders.of({
      watch: (socket) => {
        if (watched.has(socket)) return
        watched.set(socket, { taken: 0, idle: 0 })
        socket.once("close", () => watched.delete(socket))
      }
    })
  })

/** Watches connections. */
export const layer = (limit: Duration.Duration) => Layer.effect(SlowReaders, make(limit))
