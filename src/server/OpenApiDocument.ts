/**
 * What `/openapi.json` and `/docs` say beyond what the definition of the API says by itself: where the service is, which
 * cookie it has, and the headers of its answers.
 *
 * A document is made once, when it is first asked for.
 */
import type * as HttpApi from "effect/http-api/HttpApi"
import type * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as OpenApi from "effect/http-api/OpenApi"
import * as HttpMethod from "effect/http/HttpMethod"
import { challenge } from "../problem/ProblemAnswer.ts"
import type { SessionCookie } from "../http/SessionCookie.ts"
import { manifest } from "./Manifest.ts"

/** Where the service is, and the cookie of its sessions. */
export interface Options {
  readonly origin: URL
  readonly cookie: SessionCookie
}

const text = (description: string, example?: string) => ({
  description,
  schema: { type: "string", ...(example !== undefined && { examples: [example] }) }
})

const headersOf = (cookie: SessionCookie) => ({
  SetCookie: text(
    `Sets the cookie ${cookie.name}, replaces it by a newer one, or removes it. Send back the newest.`,
    `${cookie.name}=…; Max-Age=43200; Path=/; HttpOnly; SameSite=Lax`
  ),
  RetryAfter: { description: "Seconds to wait.", schema: { type: "integer", minimum: 1 } },
  WwwAuthenticate: { description: "A session's cookie is asked for.", schema: { type: "string", const: challenge } },
  Accept: text("The types of body that the call takes.", "application/json"),
  AcceptPatch: text("The types of body that PATCH takes (RFC 5789).", "application/merge-patch+json")
})

type Header = keyof ReturnType<typeof headersOf>

const header = (name: Header, required: boolean) => ({ $ref: `#/components/headers/${name}`, required })

/** The headers of an answer with a status. */
const answered = (status: string, method: string, isSession: boolean, isLogin: boolean) => ({
  ...(status === "401" && { "www-authenticate": header("WwwAuthenticate", true) }),
  ...(status === "429" && { "retry-after": header("RetryAfter", true) }),
  // Of those that are refused for their connection.
  ...(status === "503" && { "retry-after": header("RetryAfter", false) }),
  ...(status === "415" && { accept: header("Accept", true) }),
  ...(status === "415" && method === "patch" && { "accept-patch": header("AcceptPatch", true) }),
  ...(isSession && { "set-cookie": header("SetCookie", isLogin && status.startsWith("2")) })
})

/** A version that the client has needs no body. */
const notModified = (ok: OpenApi.OpenApiSpecResponse) => ({
  description: "The version that If-None-Match names is the one that is there",
  headers: ok.headers
})

const operation = (method: string, it: OpenApi.OpenAPISpecOperation) => {
  const isLogin = it.operationId === "sessions.login"
  const isSession = isLogin || it.operationId === "sessions.logout" || it.security.length > 0
  const ok = it.responses[200]
  const isVersioned = method === "get" && ok?.headers?.["etag"] !== undefined
  const responses = { ...it.responses, ...(isVersioned && { 304: notModified(ok) }) }
  return {
    ...it,
    responses: Object.fromEntries(
      Object.entries(responses).map(([status, response]) => [
        status,
        { ...response, headers: { ...response.headers, ...answered(status, method, isSession, isLogin) } }
      ])
    )
  }
}

const conditions = ["if-match", "if-none-match"]

/** Every call may be asked for a version only. */
const conditional = (it: OpenApi.OpenAPISpecOperation) => {
  const missing = conditions.filter((name) => it.parameters.every((parameter) => parameter.name !== name))
  const parameters = missing.map((name) => ({
    name,
    in: "header" as const,
    required: false,
    description: `Holds for versions only (RFC 9110 13.1): * or a list of tags.`,
    schema: { type: "string" }
  }))
  return { ...it, parameters: [...it.parameters, ...parameters] }
}

const methods: ReadonlySet<string> = new Set(Array.from(HttpMethod.all, (method) => method.toLowerCase()))

const complete = (spec: OpenApi.OpenAPISpec, { cookie }: Options) => ({
  ...spec,
  paths: Object.fromEntries(
    Object.entries(spec.paths).map(([path, item]) => [
      path,
      Object.fromEntries(
        Object.entries(item).map(([key, it]) => [
          key,
          methods.has(key) ? operation(key, conditional(it as OpenApi.OpenAPISpecOperation)) : it
        ])
      )
    ])
  ),
  components: {
    ...spec.components,
    headers: headersOf(cookie),
    securitySchemes: {
      cookie: {
        type: "apiKey",
        in: "cookie",
        name: cookie.name,
        description: "POST /login sets it. It is HttpOnly: a browser sends it by itself."
      }
    }
  }
})

/** The same API, with all that there is to say about it. */
export const describe = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>,
  options: Options
): HttpApi.HttpApi<Id, Groups> =>
  api.annotateMerge(
    OpenApi.annotations({
      version: manifest.version,
      servers: [{ url: options.origin.origin }],
      transform: (spec) => complete(spec as OpenApi.OpenAPISpec, options)
    })
  )
