/**
 * A service that is handed a listening socket, as systemd does.
 */
import { assert, describe, it } from "@effect/vitest"
import { once } from "node:events"
import { createServer, type Server } from "node:net"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as SocketActivation from "../../src/server/SocketActivation.ts"
import * as Browser from "../support/browser.ts"
import { freshDatabase } from "../support/postgres.ts"
import * as Service from "../support/service.ts"

const portOf = (server: Server) => {
  const address = server.address()
  return typeof address === "object" && address !== null ? address.port : 0
}

/** Node has no public name for it. */
const descriptorOf = (server: Server) => (server as unknown as { readonly _handle: { readonly fd: number } })._handle.fd

/** A socket on a free port. This process lets go of it once the service has it. */
const socket = Effect.acquireRelease(
  Effect.promise(async () => {
    const server = createServer()
    await once(server.listen(0, "127.0.0.1"), "listening")
    return server
  }),
  (server) => Effect.sync(() => server.close())
)

describe("a socket that is handed over", () => {
  it.live("is the one that the service listens on: a request that comes before the start is answered after it", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const server = yield* socket
      const port = portOf(server)
      const service = yield* Service.launch({
        args: ["serve"],
        env: {
          // What listens there already is in nobody's way.
          PORT: String(port),
          DATABASE_URL: Redacted.value(url),
          HOLDFAST_DEMO_PASSWORD: Service.demoPassword
        },
        handsOver: descriptorOf(server)
      })
      server.close()
      const browser = yield* Browser.login(Browser.make(`http://127.0.0.1:${port}`), {
        username: "demo",
        password: Service.demoPassword
      })
      assert.strictEqual(yield* Service.listening(service), `http://127.0.0.1:${port}`)
      assert.strictEqual((yield* browser.send("GET", "/session")).status, 200)
      yield* service.signal("SIGTERM")
      assert.strictEqual((yield* service.exited).code, 0)
    }).pipe(Effect.scoped)
  )

  it.effect("is taken where the variables are meant for this process, and there must be one of them", () =>
    Effect.gen(function* () {
      const handed = (environment: SocketActivation.Environment) => SocketActivation.handed(environment, 7)
      assert.deepStrictEqual(yield* handed({ LISTEN_FDS: "1", LISTEN_PID: "7" }), yield* Effect.succeedSome(3))
      for (const nothing of [{}, { LISTEN_FDS: "1" }, { LISTEN_FDS: "1", LISTEN_PID: "8" }, { LISTEN_PID: "7" }]) {
        assert.deepStrictEqual(yield* handed(nothing), yield* Effect.succeedNone)
      }
      const refused = yield* Effect.flip(handed({ LISTEN_FDS: "2", LISTEN_PID: "7" }))
      assert.strictEqual(
        refused.message,
        "LISTEN_FDS is 2, and Holdfast listens on one socket. Give its socket unit one ListenStream"
      )
    })
  )
})
