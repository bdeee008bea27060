/**
 * TLS of the service itself, and secrets from files.
 */
import { assert, describe, it } from "@effect/vitest"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { once } from "node:events"
import type { IncomingMessage } from "node:http"
import { request } from "node:https"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { text } from "node:stream/consumers"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Certificate from "../support/certificate.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"
import * as Service from "../support/service.ts"

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(Path.join(tmpdir(), "holdfast-tls-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly text: string
}

/** Asks on a connection of its own, and trusts this authority only. */
const ask = (url: string, ca: string, options: { readonly method?: string; readonly json?: unknown } = {}) =>
  Effect.tryPromise(async (): Promise<Answer> => {
    const headers = options.json === undefined ? {} : { "content-type": "application/json" }
    const sent = request(url, { ca, agent: false, method: options.method ?? "GET", headers })
    const answered = once(sent, "response")
    sent.end(options.json === undefined ? undefined : JSON.stringify(options.json))
    const [response] = (await answered) as [IncomingMessage]
    return { status: response.statusCode ?? 0, headers: response.headers, text: await text(response) }
  })

describe("TLS of the service itself, with secrets from files", () => {
  it.live(
    "a new certificate counts without a restart, one that makes no sense changes nothing, and the cookie is Secure",
    () =>
      Effect.gen(function* () {
        const path = yield* directory
        const file = (name: string) => Path.join(path, name)
        const put = ({ cert, key }: Certificate.Certified) => {
          writeFileSync(file("cert.pem"), cert)
          writeFileSync(file("key.pem"), key)
        }
        const [first, second] = [Certificate.make(), Certificate.make()]
        put(first)
        const { url: own } = yield* freshDatabase
        writeFileSync(file("url"), `${Redacted.value(own)}\n`)
        writeFileSync(file("demo"), Service.demoPassword)
        const service = yield* Service.launch({
          args: ["serve"],
          env: {
            PORT: "0",
            DATABASE_URL_FILE: file("url"),
            HOLDFAST_DEMO_PASSWORD_FILE: file("demo"),
            HOLDFAST_TLS_CERT: file("cert.pem"),
            HOLDFAST_TLS_KEY: file("key.pem")
          }
        })
        const url = yield* Service.listening(service)
        assert.match(url, /^https:/)
        yield* eventually(Effect.orDie(ask(`${url}/health/ready`, first.cert)), ({ status }) => status === 200)
        const json = { username: "demo", password: Service.demoPassword }
        const login = yield* ask(`${url}/login`, first.cert, { method: "POST", json })
        assert.strictEqual(login.status, 200, login.text)
        assert.match(String(login.headers["set-cookie"]), /^__Host-holdfast=[^;]+; .*Secure/)
        assert.isDefined(login.headers["strict-transport-security"])

        writeFileSync(file("cert.pem"), "no certificate")
        yield* eventually(
          Effect.sync(() => service.stdout()),
          (said) => said.includes("event=tls.kept"),
          "20 seconds"
        )
        assert.strictEqual((yield* ask(`${url}/health/live`, first.cert)).status, 200)
        assert.lengthOf(service.stdout().match(/event=tls\.kept/g) ?? [], 1)
        put(second)
        yield* eventually(Effect.isSuccess(ask(`${url}/health/live`, second.cert)), (is) => is, "20 seconds")
        assert.isTrue(yield* Effect.isFailure(ask(`${url}/health/live`, first.cert)))
        assert.lengthOf(service.stdout().match(/event=tls\.reloaded/g) ?? [], 1)
        yield* service.signal("SIGTERM")
        assert.strictEqual((yield* service.exited).code, 0)
      }).pipe(Effect.scoped),
    60_000
  )
})
