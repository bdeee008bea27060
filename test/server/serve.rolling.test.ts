/**
 * Two instances behind nginx, restarted one after the other under load.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import { freePort } from "../../src/embedded/FreePort.ts"
import * as Browser from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import { make as proxy } from "../support/nginx.ts"
import { freshDatabase } from "../support/postgres.ts"
import * as Service from "../support/service.ts"

describe("a rolling restart of two instances behind nginx", () => {
  it.live(
    "fails no request and loses no session; the one that stops is not ready first",
    () =>
      Effect.gen(function* () {
        const { url } = yield* freshDatabase
        const ports = [yield* freePort, yield* freePort]
        const { errors, port } = yield* proxy(ports)
        const front = `http://127.0.0.1:${port}`
        const start = Effect.fnUntraced(function* (own: number) {
          const service = yield* Service.launch({
            args: ["serve"],
            env: {
              PORT: String(own),
              DATABASE_URL: Redacted.value(url),
              HOLDFAST_DEMO_PASSWORD: Service.demoPassword,
              HOLDFAST_ORIGIN: front,
              HOLDFAST_DRAIN_DELAY: "1s"
            }
          })
          yield* Service.ready(yield* Service.listening(service))
          return service
        })
        const instances = yield* Effect.forEach(ports, start, { concurrency: 2 })
        const browsers = yield* Effect.forEach([1, 2, 3, 4], () =>
          Browser.login(Browser.make(front), { username: "demo", password: Service.demoPassword })
        )
        const wrong: Array<string> = []
        let asked = 0
        const load = Effect.forEach(
          browsers,
          (browser, index) =>
            Effect.forever(
              Effect.gen(function* () {
                for (const [method, path, options] of [
                  ["GET", "/session", {}],
                  ["PATCH", "/session/data", { json: { [`count${index}`]: asked } }]
                ] as const) {
                  const { status, text } = yield* browser.send(method, path, options)
                  asked++
                  if (status !== 200) wrong.push(`${method} ${path}: ${status} ${text.slice(0, 200)}`)
                }
              })
            ),
          { concurrency: "unbounded" }
        )
        const loading = yield* Effect.forkScoped(load)
        // With HOLDFAST_TEST_SCALE=2 both.
        for (const [index, instance] of instances.slice(0, Number(process.env.HOLDFAST_TEST_SCALE ?? 1)).entries()) {
          const own = ports[index] ?? 0
          yield* instance.signal("SIGTERM")
          yield* eventually(
            Browser.make(`http://127.0.0.1:${own}`).send("GET", "/health/ready"),
            ({ status, text }) => status === 503 && text.includes("shutdown")
          )
          assert.strictEqual((yield* instance.exited).code, 0)
          yield* start(own)
        }
        yield* Fiber.interrupt(loading)
        assert.deepStrictEqual(wrong, [], errors())
        assert.isAbove(asked, 50)
        for (const browser of browsers) assert.strictEqual((yield* browser.send("GET", "/session")).status, 200)
      }).pipe(Effect.scoped),
    60_000
  )
})
