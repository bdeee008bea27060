/**
 * What a request to a `SnowflakeServer` asks for, and what is wrong with how it does.
 */
import { json } from "./SnowflakeServerAnswers.ts"
import * as SnowflakeServerHttp from "./SnowflakeServerHttp.ts"

/** A call of the API. */
export interface Asked {
  readonly kind: "submit" | "status" | "partition" | "cancel"
  readonly handle: string | undefined
}

const path = /^\/api\/v2\/statements(?:\/([0-9A-Za-z-]+)(\/cancel)?)?$/

const uuid = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** What somebody asks, and what is wrong with how. */
export const read = (
  { headers, method, url }: Omit<SnowflakeServerHttp.Request, "body">,
  body: string | typeof SnowflakeServerHttp.tooLarge
): Asked | SnowflakeServerHttp.Reply => {
  const [, handle, cancel] = path.exec(url.pathname) ?? []
  if (!path.test(url.pathname)) return json(404, { code: "390404", message: "Not found." })
  const kind = handle === undefined ? "submit" : cancel === undefined ? "status" : "cancel"
  if (method !== (kind === "status" ? "GET" : "POST")) return json(405, { message: "Method not allowed." })
  if (!headers["user-agent"]) return json(400, { code: "391902", message: "The User-Agent header is missing." })
  if (!/^(?:application\/json|\*\/\*)/.test(headers.accept ?? "*/*")) {
    return json(415, { code: "391901", message: "Unsupported Accept header." })
  }
  if (method === "POST" && !/^application\/json\b/.test(headers["content-type"] ?? "application/json")) {
    return json(415, { code: "391903", message: "Unsupported Content-Type." })
  }
  if (body === SnowflakeServerHttp.tooLarge) return json(413, { code: "391908", message: "Request is too large." })
  const requestId = url.searchParams.get("requestId")
  if (requestId !== null && !uuid.test(requestId)) {
    return json(400, { code: "391905", message: "requestId is no UUID." })
  }
  return { kind: kind === "status" && url.searchParams.has("partition") ? "partition" : kind, handle }
}
