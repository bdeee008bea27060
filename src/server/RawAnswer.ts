/**
 * Answers that are written to a socket itself, where there is no router: what HTTP forbids never reaches it.
 *
 * A socket that was answered lives for a second more at most: a client that never closes its own must not keep it, and one that
 * still sends would not see the answer if it were closed at once (RFC 9112 9.6).
 */
import { Buffer } from "node:buffer"
import { STATUS_CODES } from "node:http"
import type { Duplex } from "node:stream"
import * as Problem from "../http/Problem.ts"
import * as SecurityHeaders from "./SecurityHeaders.ts"

const graceMillis = 1000

/** A problem as the body of a response. */
export const body = (status: number, code: string, title: string, detail: string): string =>
  JSON.stringify({ type: Problem.typeOf(code), title, status, detail, code })

/** A problem as a whole response, after which the connection ends. */
export const text = (
  status: number,
  code: string,
  title: string,
  detail: string,
  headers: Readonly<Record<string, string>> = {}
): string => {
  const content = body(status, code, title, detail)
  const lines = Object.entries({
    ...SecurityHeaders.everywhere,
    connection: "close",
    "content-type": "application/problem+json",
    "content-length": Buffer.byteLength(content),
    ...headers
  })
  const head = lines.map(([name, value]) => `${name}: ${value}`)
  return [`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`, ...head, "", content].join("\r\n")
}

/** Answers and closes the socket from this side too, a moment later. */
export const close = (socket: Duplex, answer: string): void => {
  setTimeout(() => socket.destroy(), graceMillis).unref()
  socket.end(answer)
}

/** Answers a request that nobody is to see, when it begins or when the time for it is up, and closes. */
export const turnAway = (socket: Duplex, answer: string, patienceMillis: number): void => {
  let isAnswered = false
  const say = () => {
    if (isAnswered) return
    isAnswered = true
    close(socket, answer)
  }
  // What still comes is not looked at.
  socket.on("error", () => undefined).on("data", say)
  if (patienceMillis === 0) say()
  else setTimeout(say, patienceMillis).unref()
}
