/** Bare `node:http`: the least that an answer can cost. */
import { createServer } from "node:http"
import { listening, port } from "./work.ts"

const server = createServer((_, response) => {
  const body = JSON.stringify({ principal: null })
  response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) }).end(body)
}).listen(port, "127.0.0.1", () => listening(() => server.close()))
