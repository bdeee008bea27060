import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Redacted from "effect/Redacted"
import type { ClientError } from "../../src/client/ClientError.ts"
import * as TwoStepSource from "../../src/token/TwoStepSource.ts"
import type { TokenSource } from "../../src/token/TokenSource.ts"
import { clientCredentials, plainClient, refreshGrant, twoStep } from "../support/tokens.ts"
import * as Servers from "../support/httpServers.ts"
import * as TokenServer from "../support/tokenServer.ts"

type Make = (url: string) => Effect.Effect<TokenSource["Service"], ClientError, HttpClient.HttpClient>

const world = (make: Make) =>
  Effect.gen(function* () {
    const server = yield* TokenServer.make
    const client = yield* plainClient
    return { server, source: yield* Effect.provideService(make(server.url), HttpClient.HttpClient, client) }
  })

const jwt = (claims: object) =>
  ["{}", JSON.stringify(claims), "signature"].map((part) => Buffer.from(part).toString("base64url")).join(".")

const nowSeconds = () => Math.floor(performance.timeOrigin + performance.now()) / 1000

const oauth = (answer: object) => JSON.stringify({ access_token: "a", token_type: "bearer", expires_in: 60, ...answer })

describe("the two-step login", () => {
  it.live("gets a refresh token for a week with mail address and password, and with it an id token for a day", () =>
    Effect.gen(function* () {
      const { server, source } = yield* world(twoStep)
      const { access, refresh } = yield* source.obtain
      assert.isTrue(server.state.accessTokens.has(Redacted.value(access.value)))
      assert.strictEqual(Duration.toHours(access.lifetime), 24)
      assert.isTrue(refresh && server.state.refreshTokens.has(Redacted.value(refresh.value)))
      assert.strictEqual(refresh && Duration.toDays(refresh.lifetime), 7)
      assert.deepStrictEqual([server.counts.logins, server.counts.refreshes], [1, 1])

      const again = yield* source.refresh(refresh?.value ?? Redacted.make(""))
      assert.isTrue(server.state.accessTokens.has(Redacted.value(again.access.value)))
      assert.isUndefined(again.refresh)
      assert.deepStrictEqual([server.counts.logins, server.counts.refreshes], [1, 2])
    }).pipe(Effect.scoped)
  )

  it.live(
    "an id token that says when it expires is good no longer, and one whose expiry is in the past is refused",
    () =>
      Effect.gen(function* () {
        const { server, source } = yield* world(twoStep)
        const answers = (claims: object, headers = {}) => {
          server.state.mood = { status: 200, body: JSON.stringify({ idToken: jwt(claims) }), headers }
          return source.refresh(Redacted.make("r"))
        }
        const { access } = yield* answers({ exp: nowSeconds() + 600 })
        assert.closeTo(Duration.toSeconds(access.lifetime), 600, 5)
        const long = yield* answers({ exp: nowSeconds() + 1e9 })
        assert.strictEqual(Duration.toHours(long.access.lifetime), 24)
        // By the server's clock, which is years behind ours.
        const skewed = yield* answers({ exp: 1000 }, { date: "Thu, 01 Jan 1970 00:15:00 GMT" })
        assert.strictEqual(Duration.toSeconds(skewed.access.lifetime), 100)
        const error = yield* Effect.flip(answers({ exp: nowSeconds() - 60 }))
        assert.strictEqual(error.reason._tag, "BadResponse")
        assert.match(error.message, /expiry is in the past/)
      }).pipe(Effect.scoped)
  )

  it.live("a wrong password is TokenRefused and is not repeated", () =>
    Effect.gen(function* () {
      const { source } = yield* world((baseUrl) =>
        TwoStepSource.make({ baseUrl, mailAddress: "alice@example.com", password: Redacted.make("Secret-wrong") })
      )
      const error = yield* Effect.flip(source.obtain)
      assert.strictEqual(error.reason._tag, "TokenRefused")
      assert.notInclude(error.message, "Secret")
    }).pipe(Effect.scoped)
  )
})

describe("client credentials", () => {
  for (const authentication of ["basic", "post"] as const) {
    it.live(`proves who it is by ${authentication}, also with an id and a secret that need encoding`, () =>
      Effect.gen(function* () {
        const { server, source } = yield* world((url) => clientCredentials(url, { authentication, scope: ["a", "b"] }))
        const { access, refresh } = yield* source.obtain
        assert.isTrue(server.state.accessTokens.has(Redacted.value(access.value)))
        assert.strictEqual(Duration.toSeconds(access.lifetime), 3600)
        assert.isUndefined(refresh)
      }).pipe(Effect.scoped)
    )
  }

  it.live("a wrong secret is TokenRefused with the server's code and nothing else of its words", () =>
    Effect.gen(function* () {
      const { source } = yield* world((url) => clientCredentials(url, { clientSecret: Redacted.make("Secret-no") }))
      const error = yield* Effect.flip(source.obtain)
      if (error.reason._tag !== "TokenRefused") return assert.fail(error.reason._tag)
      assert.deepStrictEqual([error.reason.status, error.reason.code], [401, "invalid_client"])
      assert.notInclude(JSON.stringify(error) + error.message, "Secret")
    }).pipe(Effect.scoped)
  )
})

describe("the refresh-token grant", () => {
  it.live("keeps what the server rotates", () =>
    Effect.gen(function* () {
      const server = yield* TokenServer.make
      server.state.rotates = true
      const first = server.issue("refresh", server.state.refreshTokens)
      const client = yield* plainClient
      const source = yield* Effect.provideService(refreshGrant(server.url, first), HttpClient.HttpClient, client)
      const one = yield* source.obtain
      assert.isFalse(server.state.refreshTokens.has(first))
      const two = yield* source.refresh(one.refresh?.value ?? Redacted.make(""))
      assert.isTrue(server.state.refreshTokens.has(Redacted.value(two.refresh?.value ?? Redacted.make(""))))
      const error = yield* Effect.flip(source.obtain)
      assert.strictEqual(error.reason._tag === "TokenRefused" && error.reason.code, "invalid_grant")
    }).pipe(Effect.scoped)
  )
})

describe("every source", () => {
  const kinds: ReadonlyArray<readonly [string, Make]> = [
    ["two-step", twoStep],
    ["client credentials", (url) => clientCredentials(url)],
    ["refresh token", (url) => refreshGrant(url, "Secret-refresh")]
  ]
  const answer = (status: number, body = "", headers = {}) => ({ status, body, headers })
  const cases: ReadonlyArray<readonly [string, TokenServer.Mood, string]> = [
    ["500", answer(500, "Secret"), "RefreshFailed"],
    ["503", answer(503), "RefreshFailed"],
    ["429", answer(429), "RefreshFailed"],
    ["408", answer(408), "RefreshFailed"],
    ["a reset", "resets", "RefreshFailed"],
    ["400", answer(400, '{"error":"invalid_grant"}'), "TokenRefused"],
    ["401 with words of its own", answer(401, '{"error":"Secret"}'), "TokenRefused"],
    ["403 without JSON", answer(403, "<html>Secret"), "TokenRefused"],
    ["404", answer(404), "TokenRefused"],
    ["a redirect", answer(302, "", { location: "https://example.com/" }), "BadResponse"],
    ["nothing", answer(200), "BadResponse"],
    ["no JSON", answer(200, "Secret"), "BadResponse"],
    ["JSON that ends early", answer(200, '{"access_token":"Secret'), "BadResponse"],
    ["an array", answer(200, "[]"), "BadResponse"],
    ["null", answer(200, "null"), "BadResponse"],
    ["no token", answer(200, oauth({ access_token: undefined })), "BadResponse"],
    [
      "a token that ends a header",
      answer(200, oauth({ access_token: "Secret\r\nx: y", idToken: "Secret\n" })),
      "BadResponse"
    ],
    ["more than 64 KiB", answer(200, oauth({ more: "x".repeat(70_000) })), "BadResponse"]
  ]
  for (const [kind, make] of kinds) {
    for (const [name, mood, tag] of cases) {
      it.live(`${kind}: ${name} is ${tag}, without a word of the server's`, () =>
        Effect.gen(function* () {
          const { server, source } = yield* world(make)
          server.state.mood = mood
          const error = yield* Effect.flip(source.obtain)
          assert.strictEqual(error.reason._tag, tag)
          assert.notInclude(JSON.stringify(error) + error.message, "Secret")
          assert.include(error.message, server.url)
        }).pipe(Effect.scoped)
      )
    }
  }

  const oauthCases: ReadonlyArray<readonly [string, object, RegExp]> = [
    ["an expiry in the past", { expires_in: -5 }, /expired before it was issued/],
    ["an expiry at once", { expires_in: 0 }, /expired before it was issued/],
    ["an expiry in the past, as text", { expires_in: "-5" }, /expired before it was issued/],
    ["an absurd expiry", { expires_in: 1e12 }, /more than ten years/],
    ["no expiry", { expires_in: undefined }, /does not say how long/],
    ["an expiry that is no number", { expires_in: "soon" }, /is not a bearer token/],
    ["another type of token", { token_type: "DPoP" }, /is not a bearer token/],
    ["no type of token", { token_type: undefined }, /is not a bearer token/]
  ]
  for (const [name, fields, says] of oauthCases) {
    it.live(`OAuth 2: ${name} is BadResponse`, () =>
      Effect.gen(function* () {
        const { server, source } = yield* world((url) => clientCredentials(url))
        server.state.mood = answer(200, oauth(fields))
        const error = yield* Effect.flip(source.obtain)
        assert.strictEqual(error.reason._tag, "BadResponse")
        assert.match(error.message, says)
      }).pipe(Effect.scoped)
    )
  }

  for (const status of [200, 400]) {
    it.live(`OAuth 2: a ${status} with a word of RFC 6749 means what the word does`, () =>
      Effect.gen(function* () {
        const { server, source } = yield* world((url) => clientCredentials(url))
        const said = (error: string) => {
          server.state.mood = answer(status, JSON.stringify({ error, error_description: "Secret" }))
          return Effect.map(Effect.flip(source.obtain), ({ message, reason }) => {
            assert.notInclude(message, "Secret")
            return reason._tag
          })
        }
        for (const word of ["invalid_grant", "invalid_client", "access_denied"]) {
          assert.strictEqual(yield* said(word), "TokenRefused")
        }
        for (const word of ["server_error", "temporarily_unavailable", "slow_down"]) {
          assert.strictEqual(yield* said(word), "RefreshFailed")
        }
      }).pipe(Effect.scoped)
    )
  }

  it.live("a lifetime that makes no sense is refused, and named", () =>
    Effect.gen(function* () {
      const client = yield* plainClient
      const url = "https://example.com"
      const [mailAddress, password] = ["alice@example.com", Redacted.make("Secret")]
      const wrong: ReadonlyArray<readonly [string, (value: Duration.Input) => ReturnType<Make>]> = [
        ["defaultLifetime", (value) => clientCredentials(url, { defaultLifetime: value })],
        ["refreshLifetime", (value) => refreshGrant(url, "r", { refreshLifetime: value })],
        [
          "idTokenLifetime",
          (value) => TwoStepSource.make({ baseUrl: url, mailAddress, password, idTokenLifetime: value })
        ],
        [
          "refreshTokenLifetime",
          (value) => TwoStepSource.make({ baseUrl: url, mailAddress, password, refreshTokenLifetime: value })
        ]
      ]
      for (const [field, make] of wrong) {
        for (const value of [0, -1, "soon" as Duration.Input]) {
          const error = yield* Effect.flip(Effect.provideService(make(value), HttpClient.HttpClient, client))
          assert.deepInclude(error.reason, { _tag: "InvalidConfig", field })
        }
      }
    }).pipe(Effect.scoped)
  )

  it.live("OAuth 2: an expiry as text is understood, and a missing one is what the options say", () =>
    Effect.gen(function* () {
      const { server, source } = yield* world((url) => clientCredentials(url, { defaultLifetime: "5 minutes" }))
      server.state.mood = answer(200, oauth({ expires_in: "90" }))
      assert.strictEqual(Duration.toSeconds((yield* source.obtain).access.lifetime), 90)
      server.state.mood = answer(200, oauth({ expires_in: undefined }))
      assert.strictEqual(Duration.toSeconds((yield* source.obtain).access.lifetime), 300)
    }).pipe(Effect.scoped)
  )

  const mark = "\ufeff"
  for (const [kind, make] of kinds) {
    it.live(`${kind}: an answer behind a byte order mark is read, whatever its type is said to be`, () =>
      Effect.gen(function* () {
        const { server, source } = yield* world(make)
        const types = ["application/json", "Application/JSON; Charset=iso-8859-1", "text/html", ""]
        for (const type of types) {
          server.state.mood = answer(200, mark + oauth({ refreshToken: "r", idToken: "t", access_token: "t" }), {
            "content-type": type
          })
          assert.strictEqual(Redacted.value((yield* source.obtain).access.value), "t")
        }
        server.state.mood = answer(200, mark + mark + oauth({ refreshToken: "r", idToken: "t" }))
        assert.strictEqual((yield* Effect.flip(source.obtain)).reason._tag, "BadResponse")
      }).pipe(Effect.scoped)
    )
  }

  it.live("OAuth 2: a refusal behind a byte order mark is a refusal, and its words are not repeated", () =>
    Effect.gen(function* () {
      const { server, source } = yield* world((url) => clientCredentials(url))
      server.state.mood = answer(400, `${mark}{"error":"invalid_client"}`)
      assert.deepInclude((yield* Effect.flip(source.obtain)).reason, { _tag: "TokenRefused", code: "invalid_client" })
    }).pipe(Effect.scoped)
  )

  it.live("OAuth 2: the type of a token is one in any case of its letters", () =>
    Effect.gen(function* () {
      const { server, source } = yield* world((url) => clientCredentials(url))
      for (const token_type of ["bearer", "BEARER", "bEaReR"]) {
        server.state.mood = answer(200, oauth({ token_type }))
        yield* source.obtain
      }
      for (const token_type of ["bearer ", "bearertoken", "", null, "mac"]) {
        server.state.mood = answer(200, oauth({ token_type }))
        assert.strictEqual((yield* Effect.flip(source.obtain)).reason._tag, "BadResponse", String(token_type))
      }
    }).pipe(Effect.scoped)
  )

  it.live("OAuth 2: an expiry as text may have a fraction, and no form but that of a number", () =>
    Effect.gen(function* () {
      const { server, source } = yield* world((url) => clientCredentials(url))
      for (const [expires_in, seconds] of [
        ["3600.0", 3600],
        ["0.5", 0.5],
        [0.5, 0.5]
      ] as const) {
        server.state.mood = answer(200, oauth({ expires_in }))
        assert.strictEqual(Duration.toSeconds((yield* source.obtain).access.lifetime), seconds)
      }
      for (const expires_in of ["1e3", "0x10", " 5", "5s", "", "5.", "Infinity", "NaN", true, [60]]) {
        server.state.mood = answer(200, oauth({ expires_in }))
        assert.strictEqual((yield* Effect.flip(source.obtain)).reason._tag, "BadResponse", String(expires_in))
      }
    }).pipe(Effect.scoped)
  )

  it.live(
    "OAuth 2: text that a form cannot hold is refused when the source is made, and named without being shown",
    () =>
      Effect.gen(function* () {
        const client = yield* plainClient
        const url = "https://example.com"
        const half = "hunter2\udc00"
        const wrong: ReadonlyArray<readonly [string, ReturnType<Make>]> = [
          ["tokenUrl", clientCredentials(`${url}/${half}`)],
          ["clientId", clientCredentials(url, { clientId: half })],
          ["clientSecret", clientCredentials(url, { clientSecret: Redacted.make(half) })],
          ["scope", clientCredentials(url, { scope: ["read", half] })],
          ["parameters", clientCredentials(url, { parameters: { audience: half } })],
          ["parameters", clientCredentials(url, { parameters: { [half]: "a" } })],
          ["refreshToken", refreshGrant(url, half)]
        ]
        for (const [field, make] of wrong) {
          const error = yield* Effect.flip(Effect.provideService(make, HttpClient.HttpClient, client))
          assert.deepInclude(error.reason, { _tag: "InvalidConfig", field })
          assert.notInclude(error.message, "hunter2")
        }
      }).pipe(Effect.scoped)
  )

  it.live("OAuth 2: parameters add to the form, and change nothing of what the grant says", () =>
    Effect.gen(function* () {
      const bodies: Array<URLSearchParams> = []
      const server = yield* Servers.http((request, response) => {
        const chunks: Array<Buffer> = []
        request.on("data", (chunk: Buffer) => chunks.push(chunk))
        request.on("end", () => {
          bodies.push(new URLSearchParams(Buffer.concat(chunks).toString()))
          response.end(oauth({}))
        })
      })
      const parameters = { audience: "stock", grant_type: "password", scope: "all", client_id: "other" }
      const made = clientCredentials(server.url, { parameters, scope: ["read", "list"], authentication: "post" })
      const source = yield* Effect.provideService(made, HttpClient.HttpClient, yield* plainClient)
      yield* source.obtain
      const [{ audience, client_id, grant_type, scope } = {}] = bodies.map((body) => Object.fromEntries(body))
      assert.deepStrictEqual([audience, grant_type, scope], ["stock", "client_credentials", "read list"])
      assert.notStrictEqual(client_id, "other")
    }).pipe(Effect.scoped)
  )

  it.live("OAuth 2: ten years, and an answer of 64 KiB, are the most that is believed", () =>
    Effect.gen(function* () {
      const { server, source } = yield* world((url) => clientCredentials(url))
      const tenYears = 10 * 365 * 24 * 3600
      const padded = (length: number) => {
        const text = oauth({ expires_in: tenYears })
        return text + " ".repeat(length - text.length)
      }
      server.state.mood = answer(200, padded(64 * 1024))
      assert.strictEqual(Duration.toSeconds((yield* source.obtain).access.lifetime), tenYears)
      for (const body of [padded(64 * 1024 + 1), oauth({ expires_in: tenYears + 1 })]) {
        server.state.mood = answer(200, body)
        assert.strictEqual((yield* Effect.flip(source.obtain)).reason._tag, "BadResponse")
      }
    }).pipe(Effect.scoped)
  )

  it.live("a host that only ends like one of this machine is not taken for it", () =>
    Effect.gen(function* () {
      const client = yield* plainClient
      for (const host of ["notlocalhost", "evil.127.0.0.1.example", "localhost.example", "x-localhost"]) {
        const made = clientCredentials(`http://${host}`)
        const error = yield* Effect.flip(Effect.provideService(made, HttpClient.HttpClient, client))
        assert.include(error.message, "in the clear", host)
      }
    }).pipe(Effect.scoped)
  )

  it.live("a server that is not there is RefreshFailed and says what the system calls it", () =>
    Effect.gen(function* () {
      const client = yield* plainClient
      const source = yield* Effect.provideService(twoStep("http://127.0.0.1:1"), HttpClient.HttpClient, client)
      assert.match((yield* Effect.flip(source.obtain)).message, /http:\/\/127\.0\.0\.1:1: no answer \(ECONNREFUSED\)/)
    }).pipe(Effect.scoped)
  )

  it.live("secrets are not sent in the clear, and a URL that makes no sense is refused when the source is made", () =>
    Effect.gen(function* () {
      const client = yield* plainClient
      const refusal = (make: ReturnType<Make>) =>
        Effect.provideService(make, HttpClient.HttpClient, client).pipe(
          Effect.match({ onFailure: ({ message }) => message, onSuccess: () => "none" })
        )
      assert.match(yield* refusal(twoStep("http://example.com")), /baseUrl would send secrets in the clear/)
      assert.match(yield* refusal(clientCredentials("http://10.0.0.1")), /tokenUrl would send secrets in the clear/)
      assert.match(yield* refusal(clientCredentials("nowhere")), /tokenUrl is no URL/)
      assert.match(yield* refusal(twoStep("https://u:Secret@example.com")), /baseUrl must not hold a user/)
      assert.strictEqual(yield* refusal(twoStep("https://example.com")), "none")
      assert.strictEqual(yield* refusal(twoStep("http://[::1]:8080")), "none")
    }).pipe(Effect.scoped)
  )
})
