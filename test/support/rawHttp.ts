/**
 * Requests byte by byte, for what no HTTP client would send.
 */
import { once } from "node:events"
import * as Net from "node:net"
import * as Effect from "effect/Effect"
import type { Answer } from "./browser.ts"

/** An open connection to the service at a URL, reset at the end of the scope. */
export const connect = (url: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const { hostname, port } = new URL(url)
      const socket = Net.connect({ host: hostname, port: Number(port) })
      await once(socket, "connect")
      return socket.on("error", () => undefined)
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

const parse = (bytes: Buffer): Answer => {
  // What is said on the way, such as 100 Continue, is no answer.
  const said = bytes.toString("latin1").replace(/^(?:HTTP\/1\.1 1\d\d[^\r]*\r\n\r\n)+/, "")
  const [head = "", ...rest] = said.split("\r\n\r\n")
  const [statusLine = "", ...lines] = head.split("\r\n")
  const headers = new Headers()
  for (const line of lines) headers.append(line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim())
  const text = rest.join("\r\n\r\n")
  const isJson = text !== "" && headers.get("content-type")?.includes("json") === true
  const json: unknown = isJson ? JSON.parse(text) : undefined
  return { status: Number(statusLine.split(" ")[1]), headers, text, json }
}

/** Sends bytes (a string: one each for its characters) and reads the answer until the service closes. */
export const send = (url: string, bytes: string | Uint8Array) =>
  Effect.gen(function* () {
    const socket = yield* connect(url)
    return yield* Effect.promise(async () => {
      const chunks: Array<Buffer> = []
      socket.on("data", (chunk: Buffer) => chunks.push(chunk))
      const closed = once(socket, "close")
      socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes)
      await closed
      return parse(Buffer.concat(chunks))
    })
  }).pipe(Effect.scoped)

/** A GET with one header written as it is. */
export const get = (url: string, path: string, header: string) =>
  send(url, `GET ${path} HTTP/1.1\r\nHost: ${new URL(url).host}\r\nConnection: close\r\n${header}\r\n\r\n`)
