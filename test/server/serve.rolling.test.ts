/** How clients meet a service that starts, alone and behind nginx. */
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

/** What a client hears that asks again and again until it is answered 401, apart from refused connections. */
const heard = async (url: string): Promise<ReadonlyArray<string>> => {
  const answers: Array<string> = []
  while (answers.at(-1) !== "401") {
    const answer = await fetch(`${url}/session`).then(
      async (response) => {
        await response.text()
        return String(response.status)
      },
      (error: Error) => String((error.cause as NodeJS.ErrnoException | undefined)?.code ?? error.message)
    )
    if (answer !== "ECONNREFUSED") answers.push(answer)
    await new Promise((resume) => setTimeout(resume, 1))
  }
  return answers
}

describe("a service that starts", () => {
  it.live(
    "refuses connections until it can serve, so that a proxy may ask another instance, and answers those that it accepts",
    () =>
      Effect.gen(function* () {
        const { url } = yield* freshDatabase
        const port = yield* freePort
        const clients = yield* Effect.forkScoped(
          Effect.promise(() => Promise.all([1, 2, 3, 4].map(() => heard(`http://127.0.0.1:${port}`))))
        )
        yield* Service.launch({
          args: ["serve"],
          env: { PORT: String(port), DATABASE_URL: Redacted.value(url), HOLDFAST_DEMO_PASSWORD: Service.demoPassword }
        })
        assert.deepStrictEqual(yield* Fiber.join(clients), [["401"], ["401"], ["401"], ["401"]])
      }).pipe(Effect.scoped),
    60_000
  )
})

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
              HOLDFAST_DRAIN_DELAY: "3s"
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
          const { headers } = yield* eventually(
            Browser.make(`http://127.0.0.1:${own}`).send("GET", "/health/ready"),
            ({ status, text }) => status === 503 && text.includes("shutdown")
          )
          // With a new connection for each request, one would come just when the socket closes.
          assert.strictEqual(headers.get("connection"), "keep-alive")
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
