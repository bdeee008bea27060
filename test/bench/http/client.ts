/** A client that looks at the answers, for what `wrk` does not: an open loop, and whether answers are right. */
import { Agent, request } from "node:http"
import type { Call } from "./load.ts"

export interface Answer {
  readonly status: number
  readonly text: string
}

export const make = (port: number, maxSockets = 1024) => {
  const agent = new Agent({ keepAlive: true, maxSockets, scheduling: "fifo" })
  const send = ({ cookie, json, method, path }: Call) =>
    new Promise<Answer>((resolve) => {
      const body = json === undefined ? "" : JSON.stringify(json)
      const headers = {
        ...(cookie !== undefined && { cookie }),
        ...(method !== "GET" && { origin: `http://127.0.0.1:${port}`, "content-length": Buffer.byteLength(body) }),
        ...(json !== undefined && { "content-type": "application/json" })
      }
      const failed = (error: Error) => resolve({ status: 0, text: error.message })
      request({ agent, host: "127.0.0.1", port, method, path, headers }, (response) => {
        let text = ""
        response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk))
        response.on("error", failed).on("end", () => resolve({ status: response.statusCode ?? 0, text }))
      })
        .on("error", failed)
        .end(body)
    })
  return { send, close: () => agent.destroy() }
}
