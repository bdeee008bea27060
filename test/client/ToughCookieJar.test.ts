import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as ClientSession from "../../src/client/ClientSession.ts"
import * as ToughCookieJar from "../../src/client/ToughCookieJar.ts"
import * as Servers from "../support/httpServers.ts"

/** Sets what `set` says, goes where `to` says, and answers with the cookies it got. */
const cookieServer = Servers.http(({ headers, url }, response) => {
  const { searchParams } = new URL(url ?? "/", "http://x")
  const set = searchParams.getAll("set")
  if (set.length > 0) response.setHeader("set-cookie", set)
  const to = searchParams.get("to")
  if (to !== null) response.writeHead(302, { location: to })
  response.end(headers.cookie ?? "none")
})

const client = Effect.map(ClientSession.make({ cookies: ToughCookieJar.make }), ({ client }) => client)

const get = (
  client: HttpClient.HttpClient,
  url: string,
  query: ReadonlyArray<readonly [name: string, value: string]> = []
) =>
  Effect.flatMap(
    client.get(`${url}?${new URLSearchParams(query.map(([name, value]): [string, string] => [name, value]))}`),
    (r) => r.text
  )

describe("cookies of a client session", () => {
  it.live("come back where they were set, and on redirects go to no other origin", () =>
    Effect.gen(function* () {
      const ours = yield* cookieServer
      const foreign = yield* cookieServer
      const session = yield* client
      yield* get(session, `${ours.url}/`, [["set", "at=ours"]])
      assert.strictEqual(yield* get(session, `${ours.url}/`), "at=ours")
      assert.strictEqual(yield* get(session, `${ours.url}/`, [["to", `${foreign.url}/`]]), "none")
      const there = new URLSearchParams({ set: "at=foreign", to: `${ours.url}/` })
      assert.strictEqual(yield* get(session, `${ours.url}/`, [["to", `${foreign.url}/?${there}`]]), "at=ours")
      assert.strictEqual(yield* get(session, `${foreign.url}/`), "at=foreign")
      // Another name of the same server is another origin.
      assert.strictEqual(yield* get(session, `${ours.url.replace("127.0.0.1", "localhost")}/`), "none")
    })
  )

  it.live("keep to their path and time; what http sets as secure, or for another host, is ignored", () =>
    Effect.gen(function* () {
      const server = yield* cookieServer
      const session = yield* client
      const root = `${server.url}/`
      yield* get(session, root, [
        ["set", "below=1; Path=/below"],
        ["set", "secure=1; Secure"],
        ["set", "other=1; Domain=example.com"],
        ["set", "all=1; HttpOnly; SameSite=Strict"]
      ])
      assert.strictEqual(yield* get(session, root), "all=1")
      assert.strictEqual(yield* get(session, `${root}below/it`), "below=1; all=1")
      yield* get(session, root, [["set", "all=gone; Max-Age=0"]])
      assert.strictEqual(yield* get(session, root), "none")
    })
  )

  it.live("are those of one session, also where several are made with the same options", () =>
    Effect.gen(function* () {
      const server = yield* cookieServer
      const [one, other] = yield* Effect.all([client, client])
      yield* get(one, `${server.url}/`, [["set", "at=one"]])
      assert.strictEqual(yield* get(other, `${server.url}/`), "none")
    })
  )

  it("set for a public suffix, or with a prefix they have no right to, are ignored", () => {
    const jar = ToughCookieJar.make()
    const url = new URL("https://shop.example.co.uk/")
    jar.keep(url, ["a=1; Domain=co.uk; Secure", "__Host-b=1; Path=/", "c=1; Domain=example.co.uk; Secure"])
    assert.strictEqual(jar.cookieFor(url), "c=1")
    assert.isUndefined(jar.cookieFor(new URL("https://example.co.uk/")))
    assert.isUndefined(jar.cookieFor(new URL("https://shop.example.co.uk:8443/")))
    assert.isUndefined(jar.cookieFor(new URL("http://shop.example.co.uk/")))
  })

  it("that are garbage, too long or too many are not kept", () => {
    const jar = ToughCookieJar.make()
    const url = new URL("https://example.com/")
    jar.keep(url, ["", "=", ";;;", "\u0000=1", `long=${"x".repeat(5000)}`, "a=1; Domain=[::1", "b=1; Expires=never"])
    assert.notInclude(jar.cookieFor(url) ?? "", "long")
    for (let i = 0; i < 200; i++) jar.keep(url, [`n${i}=${i}`])
    const kept = jar.cookieFor(url)?.split("; ") ?? []
    assert.strictEqual(kept.length, 50)
    assert.include(kept, "n199=199")
    assert.notInclude(kept, "n100=100")
  })
})
