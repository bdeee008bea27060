/**
 * The end of the listening socket, without a reset for who is already there.
 *
 * When a listening socket closes, the kernel resets the connections that nobody has accepted yet, and Node cuts the kept
 * connections whose next request it has not read yet. A proxy cannot know then whether a request was run, and answers 502 for one
 * that may not be sent twice. So the server closes right after it has accepted and read all that had come.
 */
import type { Server } from "node:http"

/** A turn that is shorter leaves no time for more to come. */
const quietMillis = 1

/** With so much to do, there is no quiet turn to wait for. */
const mostTurns = 200

/** Lets `close` wait for a turn of the event loop in which nobody came and that took next to no time. */
export const gently = <A extends Server>(server: A): A => {
  const close = server.close.bind(server)
  server.close = (done) => {
    let turns = 0
    let accepted = 1
    let begun = performance.now()
    const count = () => accepted++
    // Called after the sockets were looked at, and before timers are.
    const turn = () => {
      const now = performance.now()
      if ((accepted === 0 && now - begun < quietMillis) || ++turns > mostTurns) {
        server.off("connection", count)
        return void close(done)
      }
      accepted = 0
      begun = now
      setImmediate(turn)
    }
    server.on("connection", count)
    setImmediate(turn)
    return server
  }
  return server
}
