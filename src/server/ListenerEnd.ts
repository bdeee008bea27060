/**
 * The end of the listening socket, without a reset for who is already there.
 *
 * When a listening socket closes, the kernel resets the connections that nobody has accepted yet, and Node cuts the kept
 * connections whose next request it has not read yet. A proxy cannot know then whether a request was run, and answers 502 for one
 * that may not be sent twice. So the server closes right after it has accepted and read all that had come, and a kept connection
 * has one more answer, which says that it is the last. When nobody has asked on any of them for a while, the rest is closed.
 */
import * as Duration from "effect/Duration"
import type { Server, ServerResponse } from "node:http"

/** A turn that is shorter leaves no time for more to come. */
const quietMillis = 1

/** With so much to do, there is no quiet turn to wait for. */
const mostTurns = 200

/** Waits for a turn of the event loop in which nobody came and that took next to no time. */
const quietly = (server: Server, then: () => void): void => {
  let turns = 0
  let accepted = 1
  let begun = performance.now()
  const count = () => accepted++
  // Called after the sockets were looked at, and before timers are.
  const turn = () => {
    const now = performance.now()
    if ((accepted === 0 && now - begun < quietMillis) || ++turns > mostTurns) {
      server.off("connection", count)
      return then()
    }
    accepted = 0
    begun = now
    setImmediate(turn)
  }
  server.on("connection", count)
  setImmediate(turn)
}

/**
 * How long kept connections wait for one more request. Who lets the service drain has a proxy in front, which may get no processor
 * for a moment, and must not lose a request; who does not, such as a developer, wants it to be over.
 */
export const keptFor = (drainDelay: Duration.Duration): Duration.Duration =>
  Duration.isZero(drainDelay) ? Duration.millis(100) : Duration.seconds(1)

/**
 * Lets `close` wait for a quiet turn, and then for the next request on each kept connection, until none has come for so long. A
 * connection that has its last answer is closed with it. Returns what the server calls with each response before it answers.
 */
export const gently = (server: Server, forKept: Duration.Duration): ((response: ServerResponse) => void) => {
  const close = server.close.bind(server)
  const closeIdle = server.closeIdleConnections.bind(server)
  const answering = new Set<ServerResponse>()
  let begins = (response: ServerResponse) => {
    answering.add(response)
    response.once("close", () => answering.delete(response))
  }
  server.close = (done) => {
    quietly(server, () => {
      // Node's `close` cuts kept connections at once.
      server.closeIdleConnections = () => undefined
      close(done)
      server.closeIdleConnections = closeIdle
      const timer = setTimeout(() => quietly(server, closeIdle), Duration.toMillis(forKept))
      begins = (response) => {
        response.shouldKeepAlive = false
        timer.refresh()
        // The connection of an answer that had begun before is kept.
        response.once("close", () => timer.refresh())
      }
      for (const response of answering) begins(response)
      server.once("close", () => clearTimeout(timer))
    })
    return server
  }
  return (response) => begins(response)
}
