/**
 * A real server that issues tokens, and an API that wants them: what market-data services and OAuth 2 servers do, and what
 * they do wrong. It counts what it was asked. Lives as long as the scope it was made in.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { createHash, randomBytes } from "node:crypto"
import type { IncomingMessage, ServerResponse } from "node:http"
import * as Servers from "./httpServers.ts"

/** What the next exchanges meet, instead of a server that works. */
export type Mood =
  | "well"
  /** Accepts and never answers. */
  | "silent"
  /** Answers when `release` says so. */
  | "held"
  /** Hangs up. */
  | "resets"
  /** Answers this status with this body, whatever is asked. */
  | { readonly status: number; readonly body: string; readonly headers?: Readonly<Record<string, string>> }

export const credentials = {
  mailAddress: "alice@example.com",
  password: "Secret-pa55word",
  clientId: "shop:1",
  clientSecret: "Secret-cl1ent/+ %"
}

const Login = Schema.fromJsonString(Schema.Struct({ mailaddress: Schema.String, password: Schema.String }))
const decodeLogin = Schema.decodeUnknownOption(Login)

/** Unlike any other text, so that it is found wherever it does not belong. */
const secret = (kind: string) => `Secret-${kind}-${randomBytes(12).toString("hex")}`

export const make = Effect.gen(function* () {
  const counts = { logins: 0, refreshes: 0, grants: 0, api: 0, refused: 0 }
  const state = {
    mood: "well" as Mood,
    /** Milliseconds until an exchange is answered. */
    delay: 0,
    /** In seconds, of OAuth 2 answers. */
    expiresIn: 3600,
    /** Whether a refresh token is good once. */
    rotates: false,
    /** Whether the API takes nothing. */
    rejectsAll: false,
    /** What it says then, and with what; `undefined` begins and never ends. */
    refusal: JSON.stringify({ message: "no" }) as string | undefined,
    refreshTokens: new Set<string>(),
    accessTokens: new Set<string>()
  }
  const held: Array<() => void> = []
  const release = Effect.sync(() => held.splice(0).forEach((go) => go()))
  /** Everything that must not be seen anywhere. */
  const secrets = new Set<string>([credentials.password, credentials.clientSecret])
  const issue = (kind: string, into: Set<string>): string => {
    const token = secret(kind)
    secrets.add(token)
    into.add(token)
    return token
  }

  const json = (response: ServerResponse, status: number, body: unknown) => {
    response.writeHead(status, { "content-type": "application/json" })
    response.end(JSON.stringify(body))
  }

  const exchange = (url: URL, request: IncomingMessage, body: string, response: ServerResponse) => {
    if (url.pathname === "/v1/token/auth_user") {
      const login = Option.getOrUndefined(decodeLogin(body))
      const isRight = login?.mailaddress === credentials.mailAddress && login.password === credentials.password
      if (!isRight) return json(response, 400, { message: `no such user: ${body}` })
      return json(response, 200, { refreshToken: issue("refresh", state.refreshTokens) })
    }
    if (url.pathname === "/v1/token/auth_refresh") {
      const isGood = state.refreshTokens.has(url.searchParams.get("refreshtoken") ?? "")
      if (!isGood) return json(response, 400, { message: `bad token: ${url.search}` })
      return json(response, 200, { idToken: issue("id", state.accessTokens) })
    }
    const form = new URLSearchParams(body)
    const basic = Buffer.from((request.headers.authorization ?? "").replace("Basic ", ""), "base64").toString()
    const [name, password] = (
      basic.includes(":") ? basic : `${form.get("client_id")}:${form.get("client_secret")}`
    ).split(/:(.*)/s)
    const plain = (text = "") => (basic.includes(":") ? new URLSearchParams(`x=${text}`).get("x") : text)
    const isClient = basic.includes(":")
      ? plain(name) === credentials.clientId && plain(password) === credentials.clientSecret
      : form.get("client_id") === credentials.clientId && form.get("client_secret") === credentials.clientSecret
    if (!isClient) return json(response, 401, { error: "invalid_client", error_description: `not ${body}` })
    const refreshToken = form.get("refresh_token") ?? ""
    if (form.get("grant_type") === "refresh_token") {
      if (!state.refreshTokens.has(refreshToken)) return json(response, 400, { error: "invalid_grant" })
      if (state.rotates) state.refreshTokens.delete(refreshToken)
    }
    return json(response, 200, {
      access_token: issue("access", state.accessTokens),
      token_type: "Bearer",
      expires_in: state.expiresIn,
      ...(state.rotates ? { refresh_token: issue("refresh", state.refreshTokens) } : {})
    })
  }

  const api = (request: IncomingMessage, response: ServerResponse) => {
    counts.api++
    const token = (request.headers.authorization ?? "").replace("Bearer ", "")
    if (!state.rejectsAll && state.accessTokens.has(token)) return json(response, 200, { seen: token.length })
    counts.refused++
    response.writeHead(401, { "content-type": "application/json" })
    if (state.refusal === undefined) response.write("[".repeat(100_000))
    else response.end(state.refusal)
  }

  const answer = (url: URL, request: IncomingMessage, body: string, response: ServerResponse) => {
    const elsewhere = url.searchParams.get("redirect")
    if (elsewhere !== null) return response.writeHead(302, { location: elsewhere }).end()
    if (url.pathname.startsWith("/api")) return api(request, response)
    if (url.pathname === "/v1/token/auth_user") counts.logins++
    else if (url.pathname === "/v1/token/auth_refresh") counts.refreshes++
    else counts.grants++
    const { mood } = state
    if (mood === "silent") return
    if (mood === "held") return held.push(() => exchange(url, request, body, response))
    if (mood === "resets") return request.socket.resetAndDestroy()
    if (mood !== "well") {
      response.writeHead(mood.status, mood.headers)
      return response.end(mood.body)
    }
    setTimeout(() => exchange(url, request, body, response), state.delay)
  }

  const { allClosed, sockets, url } = yield* Servers.http((request, response) => {
    const chunks: Array<Buffer> = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("end", () =>
      answer(new URL(request.url ?? "/", "http://localhost"), request, Buffer.concat(chunks).toString(), response)
    )
    request.on("error", () => undefined)
  })
  return { url, sockets, allClosed, counts, state, release, secrets, issue, hash }
})

/** Names a token without telling it. */
export const hash = (token: string) => createHash("sha256").update(token).digest("hex")
