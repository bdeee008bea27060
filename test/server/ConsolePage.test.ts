import { NodeHttpServer } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import { createServer } from "node:http"
import * as ConsolePage from "../../src/server/ConsolePage.ts"
import * as Browser from "../support/browser.ts"

/** A service in a checkout where the page was not built. */
const service = HttpRouter.serve(
  Layer.merge(
    ConsolePage.layerOf(new URL("not-built/", import.meta.url)),
    HttpRouter.add("GET", "/else", HttpServerResponse.text("works"))
  ),
  { disableListenLog: true, disableLogger: true }
).pipe(Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })))

layer(service, { excludeTestServices: true })("the console that was not built", (it) => {
  it.effect("is answered with 503 and what the operator does, and everything else works", () =>
    Effect.gen(function* () {
      const { address } = yield* HttpServer.HttpServer
      const browser = Browser.make(HttpServer.formatAddress(address))
      const page = yield* browser.send("GET", "/console")
      assert.deepStrictEqual(
        [page.status, page.headers.get("content-type"), page.json],
        [
          503,
          "application/problem+json",
          {
            type: "urn:holdfast:problem:ConsoleMissing",
            title: "The console was not built",
            status: 503,
            code: "ConsoleMissing",
            detail: "Run `npm run build:console` in the checkout of this service, then start it again."
          }
        ]
      )
      const asset = yield* browser.send("GET", "/console/assets/index.js")
      assert.deepStrictEqual([asset.status, (asset.json as { readonly code: string }).code], [404, "NotFound"])
      assert.strictEqual((yield* browser.send("GET", "/else")).text, "works")
    })
  )
})
