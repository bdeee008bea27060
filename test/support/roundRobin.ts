/**
 * A proxy that gives each request to the next of several services, as a load balancer without sticky sessions. One that refuses a
 * connection, or cuts one before it has answered anything, is passed over. It lives as long as its scope.
 */
import * as Http from "node:http"
import { once } from "node:events"
import * as Effect from "effect/Effect"

/** Where requests may go. It can change at any time. */
export interface RoundRobin {
  readonly url: string
  readonly targets: Array<string>
}

const hop = new Set(["connection", "keep-alive", "transfer-encoding"])

const forward = async (
  request: Http.IncomingMessage,
  body: Buffer,
  target: string,
  response: Http.ServerResponse
): Promise<boolean> => {
  const headers = Object.fromEntries(Object.entries(request.headers).filter(([name]) => !hop.has(name)))
  const sent = Http.request(`${target}${request.url ?? "/"}`, {
    method: request.method,
    headers: { ...headers, host: new URL(target).host },
    agent: false,
    timeout: 4000
  })
  sent.on("timeout", () => sent.destroy(new Error("timeout")))
  response.on("close", () => sent.destroy())
  sent.end(body)
  try {
    const [answer] = (await once(sent, "response")) as [Http.IncomingMessage]
    // What has begun to answer has all the time that it takes.
    sent.setTimeout(0)
    answer.on("error", () => response.destroy())
    response.writeHead(
      answer.statusCode ?? 502,
      Object.fromEntries(Object.entries(answer.headers).filter(([name]) => !hop.has(name)))
    )
    answer.pipe(response)
    return true
  } catch {
    return response.destroyed
  }
}

export const make = (targets: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const state = { targets: [...targets] }
      let turn = 0
      const handle = async (request: Http.IncomingMessage, response: Http.ServerResponse) => {
        const pieces: Array<Buffer> = []
        for await (const piece of request) pieces.push(piece as Buffer)
        for (let tries = 0; tries < state.targets.length; tries++) {
          const target = state.targets[turn++ % state.targets.length] ?? ""
          if (await forward(request, Buffer.concat(pieces), target, response)) return
        }
        response.writeHead(502).end()
      }
      const server = Http.createServer((request, response) => {
        handle(request, response).catch(() => response.destroy())
      })
      server.listen(0, "127.0.0.1")
      await once(server, "listening")
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : 0
      const made: RoundRobin = { url: `http://127.0.0.1:${port}`, targets: state.targets }
      return { made, server }
    }),
    ({ server }) =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
  ).pipe(Effect.map(({ made }) => made))
