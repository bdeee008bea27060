/**
 * Peers of a server in another thread, which act while the server's event loop stands still.
 *
 * Half of them have had one answer before; all send a request when they are told to, and then count up `sent`.
 */
import { once } from "node:events"
import { connect, type Socket } from "node:net"
import { parentPort, workerData } from "node:worker_threads"

export interface Peers {
  readonly port: number
  readonly request: string
  readonly count: number
  /** Counted up and notified when all requests are with the server's kernel. */
  readonly sent: Int32Array<SharedArrayBuffer>
}

const { count, port, request, sent } = workerData as Peers

const opened = async () => {
  const socket = connect({ host: "127.0.0.1", port })
  await once(socket, "connect")
  return socket
}

const answer = async (socket: Socket) => {
  let text = ""
  socket.on("data", (chunk: Buffer) => (text += chunk.toString()))
  await new Promise((resolve) => socket.on("error", resolve).on("end", resolve))
  return text
}

const known: Array<Socket> = []
for (let index = 0; index < count; index++) {
  const socket = await opened()
  socket.write(request)
  await once(socket, "data")
  known.push(socket)
}
parentPort?.postMessage("ready")
await once(parentPort ?? new EventTarget(), "message")
const fresh = await Promise.all(Array.from({ length: count }, opened))
const all = [...known, ...fresh]
const answers = all.map(answer)
for (const socket of all) await new Promise((resolve) => socket.write(request, resolve))
Atomics.store(sent, 0, 1)
Atomics.notify(sent, 0)
parentPort?.postMessage(await Promise.all(answers))
