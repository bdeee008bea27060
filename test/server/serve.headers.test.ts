import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import * as SecurityHeaders from "../../src/server/SecurityHeaders.ts"
import * as RawHttp from "../support/rawHttp.ts"
import * as Service from "../support/service.ts"

interface Read {
  readonly get: (name: string) => string | null
}

const policyOf = (headers: Read) =>
  new Map(
    (headers.get("content-security-policy") ?? "").split("; ").map((directive) => {
      const [name = "", ...sources] = directive.split(" ")
      return [name, sources] as const
    })
  )

/** What OWASP Secure Headers asks of every answer. */
const assertSafe = (headers: Read, what: string) => {
  for (const [name, value] of Object.entries({
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store"
  })) {
    assert.strictEqual(headers.get(name), value, `${what}: ${name}`)
  }
  const policy = policyOf(headers)
  for (const directive of ["default-src", "frame-ancestors", "base-uri", "form-action"]) {
    assert.deepStrictEqual(policy.get(directive), ["'none'"], `${what}: ${directive}`)
  }
}

const sha256 = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`

/** The texts between the tags of a page, as a browser finds them: what is within one is not looked into. */
const between = (page: string, open: string, close: string) => {
  const texts: Array<string> = []
  for (let at = page.indexOf(open); at >= 0; at = page.indexOf(open, at)) {
    const end = page.indexOf(close, at)
    texts.push(page.slice(at + open.length, end))
    at = end
  }
  return texts
}

layer(Service.layerShared({ HOLDFAST_ORIGIN: "https://example.org" }), {
  excludeTestServices: true,
  timeout: "60 seconds"
})("headers of security", (it) => {
  it.effect("every answer tells a browser to run, load and frame nothing, whoever gives it", () =>
    Effect.gen(function* () {
      const { browser, url } = yield* Service.Shared
      for (const [method, path, status] of [
        ["GET", "/health/live", 200],
        ["GET", "/health/ready", 200],
        ["GET", "/openapi.json", 200],
        ["GET", "/docs", 200],
        ["HEAD", "/docs", 200],
        ["GET", "/session", 401],
        ["GET", "/metrics", 200],
        ["GET", "/holdings", 401],
        ["GET", "/nothing", 404],
        ["GET", "//docs", 404],
        ["POST", "/docs", 404],
        ["POST", "/logout", 204]
      ] as const) {
        const answer = yield* browser().send(method, path)
        const what = `${method} ${path}`
        assert.strictEqual(answer.status, status, what)
        assertSafe(answer.headers, what)
        assert.strictEqual(answer.headers.get("strict-transport-security"), "max-age=31536000; includeSubDomains", what)
      }
      const foreign = { headers: { origin: "https://evil.example" }, json: { username: "demo", password: "x" } }
      const refused = yield* browser().send("POST", "/login", foreign)
      assert.strictEqual(refused.status, 403)
      assertSafe(refused.headers, "another site's")
      for (const [request, status] of [
        ["nonsense\r\n\r\n", 400],
        [`GET / HTTP/1.1\r\nHost: x\r\nX: ${"x".repeat(20_000)}\r\n\r\n`, 431],
        ["GET / HTTP/1.1\r\nHost: x\r\nExpect: more\r\nConnection: close\r\n\r\n", 417]
      ] as const) {
        const answer = yield* RawHttp.send(url, request)
        assert.strictEqual(answer.status, status)
        assertSafe(answer.headers, request.slice(0, 40))
      }
    })
  )

  it.effect("an answer that says something else of itself keeps that", () =>
    Effect.gen(function* () {
      const { browser } = yield* Service.Shared
      const json = { username: "demo", password: Service.demoPassword }
      const login = yield* browser().send("POST", "/login", { json, headers: { origin: "https://example.org" } })
      assertSafe(login.headers, "the login")
      const [cookie = ""] = login.headers.getSetCookie()
      assert.match(cookie, /^__Host-holdfast=/)
      const headers = { cookie: cookie.split(";")[0] ?? "" }
      const data = yield* browser().send("GET", "/session/data", { headers })
      assertSafe(data.headers, "the data")
      assert.match(data.headers.get("etag") ?? "", /^"/)
    })
  )

  it.effect("/docs runs the scripts and styles that are written in it and no others, and loads nothing", () =>
    Effect.gen(function* () {
      const { browser } = yield* Service.Shared
      const { headers, text } = yield* browser().send("GET", "/docs")
      const policy = policyOf(headers)
      const scripts = between(text, "<script>", "</script>")
      assert.isNotEmpty(scripts)
      assert.sameMembers(policy.get("script-src") ?? [], scripts.map(sha256))
      assert.sameMembers(policy.get("style-src") ?? [], between(text, "<style>", "</style>").map(sha256))
      assert.deepStrictEqual(policy.get("connect-src"), ["'self'"])
      assert.deepStrictEqual(policy.get("img-src"), ["'self'", "data:"])
      assert.notInclude(headers.get("content-security-policy"), "unsafe")
      assert.notInclude(headers.get("content-security-policy"), "http")
      // Neither attributes that are scripts or styles, which a hash does not cover, nor other sites' files.
      const markup = text.replace(/<(script|style)\b[^>]*>[^]*?<\/\1>/g, "")
      assert.notMatch(markup, /\s(?:on\w+|style|src|href)\s*=/i)
      assert.include(headers.get("permissions-policy"), "geolocation=()")
    })
  )
})

describe("the policy of a page", () => {
  it("names its scripts and styles as a browser reads them, and not what is data", () => {
    const policy = SecurityHeaders.policyOf(
      '<style>a\r\nb</style><SCRIPT>x\ry</SCRIPT><script id="d" type="application/json">{}</script><script>x\ny</script>'
    )
    assert.include(policy, `script-src ${sha256("x\ny")};`)
    assert.include(policy, `style-src ${sha256("a\nb")};`)
    assert.include(SecurityHeaders.policyOf("<p>"), "script-src 'none'; style-src 'none'")
  })
})
