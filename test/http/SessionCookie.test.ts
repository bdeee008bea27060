import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Cookies from "effect/http/Cookies"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as SessionCookie from "../../src/http/SessionCookie.ts"
import * as SessionToken from "../../src/session/SessionToken.ts"

const field = (options: SessionCookie.Options) =>
  Effect.match(SessionCookie.make(options), { onFailure: ({ field }) => field, onSuccess: () => "ok" })
const requestWith = (cookie?: string) =>
  HttpServerRequest.fromWeb(new Request("http://localhost/", cookie === undefined ? {} : { headers: { cookie } }))
const header = (response: HttpServerResponse.HttpServerResponse) => Cookies.toSetCookieHeaders(response.cookies)

describe("SessionCookie", () => {
  it.effect("is __Host-, Secure, HttpOnly and SameSite=Lax unless somebody says otherwise", () =>
    Effect.gen(function* () {
      const cookie = yield* SessionCookie.Current
      assert.deepStrictEqual(yield* SessionCookie.make(), cookie)
      const token = SessionToken.make()
      const expires = DateTime.makeUnsafe(Date.UTC(2030, 0, 1))
      const until = { expiresAt: expires, livesFor: Duration.millis(3_599_001) }
      const response = SessionCookie.setOn(HttpServerResponse.empty(), cookie, token, until)
      assert.deepStrictEqual(header(response), [
        `__Host-holdfast=${Redacted.value(token)}; Max-Age=3600; Path=/; Expires=Tue, 01 Jan 2030 00:00:00 GMT; HttpOnly; Secure; SameSite=Lax`
      ])
      assert.strictEqual(response.headers["cache-control"], "no-store")
    })
  )

  it.effect("is removed with the attributes it was set with, and no cache keeps the removal", () =>
    Effect.gen(function* () {
      for (const options of [{}, { name: "__Secure-app", domain: "example.org", path: "/app", partitioned: true }]) {
        const cookie = yield* SessionCookie.make(options)
        const until = { expiresAt: DateTime.makeUnsafe(0), livesFor: Duration.zero }
        const set = SessionCookie.setOn(HttpServerResponse.empty(), cookie, SessionToken.make(), until)
        // What is set is not removed by the same answer.
        assert.include(header(set)[0], "Max-Age=1;")
        const removed = SessionCookie.removeFrom(HttpServerResponse.empty(), cookie)
        const attributes = (response: HttpServerResponse.HttpServerResponse) =>
          (header(response)[0] ?? "")
            .split("; ")
            .slice(1)
            .filter((part) => !/^(Expires|Max-Age)=/.test(part))
        assert.deepStrictEqual(attributes(removed), attributes(set))
        assert.match(header(removed)[0] ?? "", /Max-Age=0; .*Expires=Thu, 01 Jan 1970/)
        assert.strictEqual(removed.headers["cache-control"], "no-store")
      }
    })
  )

  it.effect("refuses what no browser would accept, and names the field", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly [SessionCookie.Options, string]> = [
        [{}, "ok"],
        [{ name: "__Host-app", domain: "example.org" }, "domain"],
        [{ name: "__host-app", domain: "example.org" }, "domain"],
        [{ name: "__Host-app", path: "/app" }, "path"],
        [{ name: "__Host-app", secure: false }, "secure"],
        [{ name: "__Secure-app", secure: false }, "secure"],
        [{ name: "__Secure-app", domain: "example.org", path: "/app" }, "ok"],
        [{ name: "app", secure: false }, "ok"],
        [{ name: "app", secure: false, sameSite: "none" }, "secure"],
        [{ sameSite: "none" }, "ok"],
        [{ name: "app", secure: false, partitioned: true }, "secure"],
        [{ partitioned: true }, "ok"],
        [{ name: "" }, "name"],
        [{ name: "two words" }, "name"],
        [{ name: "a=b" }, "name"],
        [{ name: "__Secure-app", path: "app" }, "path"],
        [{ name: "__Secure-app", path: "/a;b" }, "path"],
        [{ name: "__Secure-app", path: "/a\nb" }, "path"],
        [{ name: "__Secure-app", domain: "exa mple.org" }, "domain"],
        [{ name: "__Secure-app", domain: "192.0.2.1" }, "domain"],
        [{ name: "__Secure-app", domain: "localhost" }, "domain"]
      ]
      for (const [options, expected] of cases) {
        assert.strictEqual(yield* field(options), expected, JSON.stringify(options))
      }
    })
  )

  it.effect("fails when its layer is built, not when somebody logs in", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(SessionCookie.layer({ domain: "example.org" }))))
      assert.deepInclude(error, { _tag: "SessionCookieInvalid", field: "domain" })
      assert.strictEqual(error.message, "Change `domain` of the session cookie: a __Host- cookie must have none.")
    })
  )

  it.effect("over http on a loopback address it has another name and is not Secure", () =>
    Effect.gen(function* () {
      const cookie = SessionCookie.forOrigin(new URL("http://127.0.0.1:3000"))
      assert.deepInclude(cookie, { name: "holdfast-dev-3000", secure: false })
      assert.strictEqual(SessionCookie.forOrigin(new URL("http://localhost")).name, "holdfast-dev")
      assert.deepStrictEqual(yield* SessionCookie.make(cookie), cookie)
      assert.deepStrictEqual(SessionCookie.forOrigin(new URL("https://example.org")), yield* SessionCookie.Current)
    })
  )

  it.effect("reads one token that we can have issued, and nothing else", () =>
    Effect.gen(function* () {
      const cookie = yield* SessionCookie.Current
      const [token, other] = [SessionToken.make(), SessionToken.make()].map(Redacted.value)
      const read = (header?: string) =>
        Option.getOrNull(Option.map(SessionCookie.read(cookie, requestWith(header)), Redacted.value))
      assert.strictEqual(read(`a=b; __Host-holdfast=${token}; c=d`), token)
      assert.strictEqual(read(`__Host-holdfast=${token};__Host-holdfast=${token}`), token)
      for (const header of [
        undefined,
        "",
        `holdfast=${token}`,
        `__host-holdfast=${token}`,
        "__Host-holdfast=",
        "__Host-holdfast",
        `__Host-holdfast="${token}"`,
        `__Host-holdfast=${token}x`,
        `__Host-holdfast=%41${String(token).slice(1)}`,
        `__Host-holdfast=${token}; __Host-holdfast=${other}`,
        "__Host-holdfast=ÿþ\x01"
      ]) {
        assert.isNull(read(header), header)
      }
      assert.isTrue(SessionCookie.isPresent(cookie, requestWith("__Host-holdfast=garbage")))
      assert.isFalse(SessionCookie.isPresent(cookie, requestWith("other=garbage")))
    })
  )

  it.effect("the token after a token depends on both the token and the nonce, and on nothing else", () =>
    Effect.sync(() => {
      const [token, other] = [SessionToken.make(), SessionToken.make()]
      const nonce = Buffer.alloc(32, 7).toString("base64url")
      const next = Redacted.value(SessionToken.next(token, nonce))
      assert.match(next, /^[A-Za-z0-9_-]{43}$/)
      assert.strictEqual(Redacted.value(SessionToken.next(token, nonce)), next)
      assert.notStrictEqual(Redacted.value(SessionToken.next(other, nonce)), next)
      assert.notStrictEqual(Redacted.value(SessionToken.next(token, Buffer.alloc(32, 8).toString("base64url"))), next)
      // RFC 4231 has no key of this shape; computed with `openssl dgst -sha256 -mac HMAC`.
      const known = SessionToken.next(Redacted.make(SessionToken.SessionToken.make("A".repeat(43))), nonce)
      assert.strictEqual(Redacted.value(known), "SdJWShumyt1rgNZUZ9hFOpY8pIjj6iEQCrdJxtASvKg")
    })
  )
})
