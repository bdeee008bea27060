/**
 * The service as docs/deploy has it: on a socket that systemd hands over, and behind nginx and Caddy, with a certificate of a private
 * authority.
 */
import { assert, layer } from "@effect/vitest"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import type { IncomingMessage } from "node:http"
import { request } from "node:https"
import { createServer, type Server } from "node:net"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { text } from "node:stream/consumers"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { freePort } from "../../src/embedded/FreePort.ts"
import type * as DistributionProgram from "../../src/testing/internal/DistributionProgram.ts"
import * as Browser from "../support/browser.ts"
import * as Certificate from "../support/certificate.ts"
import { eventually } from "../support/conditions.ts"
import * as Programs from "../support/distributionPrograms.ts"
import { freshDatabase } from "../support/postgres.ts"
import * as Service from "../support/service.ts"

const origin = "https://localhost"

/** A directory with a certificate of an authority that nobody else knows. */
const certified = Effect.acquireRelease(
  Effect.sync(() => {
    const path = mkdtempSync(Path.join(tmpdir(), "holdfast-proxies-"))
    const { authority, cert, key } = Certificate.issued()
    writeFileSync(Path.join(path, "cert.pem"), cert)
    writeFileSync(Path.join(path, "key.pem"), key)
    return { path, authority }
  }),
  ({ path }) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

/** Runs a program for the current scope. */
const running = ({ argv0, libraries, path }: DistributionProgram.Program, args: ReadonlyArray<string>, home: string) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(path, args, {
        argv0,
        stdio: "ignore",
        env: {
          ...process.env,
          HOME: home,
          XDG_DATA_HOME: home,
          XDG_CONFIG_HOME: home,
          ...(libraries !== undefined && { LD_LIBRARY_PATH: libraries })
        }
      })
    ),
    (child) =>
      Effect.promise(async () => {
        if (child.exitCode !== null || child.signalCode !== null) return
        const gone = once(child, "exit")
        child.kill("SIGKILL")
        await gone
      })
  )

interface Place {
  readonly path: string
  /** Of the service. */
  readonly port: number
}

/** nginx with the file of docs/deploy: only places and ports are others. Answers its port. */
const nginx = Effect.fnUntraced(function* ({ path, port }: Place) {
  const [own, plain] = [yield* freePort, yield* freePort]
  const conf = readFileSync("docs/deploy/nginx/holdfast.conf", "utf8")
    .replaceAll("/etc/letsencrypt/live/example.org/fullchain.pem", `${path}/cert.pem`)
    .replaceAll("/etc/letsencrypt/live/example.org/privkey.pem", `${path}/key.pem`)
    .replaceAll("example.org", "localhost")
    .replace("127.0.0.1:3000", `127.0.0.1:${port}`)
    .replace("listen 443", `listen 127.0.0.1:${own}`)
    .replace("listen 80", `listen 127.0.0.1:${plain}`)
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${path}/${name};`
  )
  const file = Path.join(path, "nginx.conf")
  const settings = `daemon off; master_process off; pid ${path}/pid; error_log ${path}/error.log; events {}`
  writeFileSync(file, `${settings} http { access_log off; ${temporary.join(" ")} ${conf} }`)
  yield* running(yield* Programs.nginx, ["-c", file, "-e", `${path}/error.log`], path)
  return own
})

/** The same of Caddy, which is given the certificate. */
const caddy = Effect.fnUntraced(function* ({ path, port }: Place) {
  const own = yield* freePort
  const site = readFileSync("docs/deploy/caddy/Caddyfile", "utf8")
    .replace(/^example\.org \{/m, `${origin}:${own} {\n\tbind 127.0.0.1\n\ttls ${path}/cert.pem ${path}/key.pem`)
    .replace("127.0.0.1:3000", `127.0.0.1:${port}`)
  const file = Path.join(path, "Caddyfile")
  writeFileSync(file, `{\n\tadmin off\n\tauto_https disable_redirects\n}\n${site}`)
  yield* running(yield* Programs.caddy, ["run", "--adapter", "caddyfile", "--config", file], path)
  return own
})

/** Asks as a browser at {@link origin} does, on a connection of its own, and trusts this authority only. */
const browserAt = (port: number, ca: string) => {
  let cookie = ""
  const send = async (method: string, path: string, json?: unknown): Promise<IncomingMessage> => {
    const sent = request({
      host: "127.0.0.1",
      servername: "localhost",
      port,
      path,
      method,
      ca,
      agent: false,
      headers: {
        host: "localhost",
        origin,
        ...(cookie !== "" && { cookie }),
        ...(json !== undefined && { "content-type": "application/json" })
      }
    })
    const answered = once(sent, "response")
    sent.end(json === undefined ? undefined : JSON.stringify(json))
    const [response] = (await answered) as [IncomingMessage]
    const [given] = response.headers["set-cookie"] ?? []
    if (given !== undefined) cookie = given.slice(0, given.indexOf(";"))
    return response
  }
  return {
    send,
    ask: (method: string, path: string, json?: unknown) =>
      Effect.tryPromise(async () => {
        const response = await send(method, path, json)
        return { status: response.statusCode, headers: response.headers, text: await text(response) }
      })
  }
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

class Deployed extends Context.Service<
  Deployed,
  {
    readonly port: number
    readonly service: Service.Program
    /** What a login came to that was sent when the service was not there yet. */
    readonly early: Effect.Effect<Browser.Answer>
  }
>()("test/Deployed") {
  static readonly layer = Layer.effect(
    Deployed,
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const server = yield* socket
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : 0
      const service = yield* Service.launch({
        args: ["serve"],
        env: {
          // What listens there already is in nobody's way.
          PORT: String(port),
          DATABASE_URL: Redacted.value(url),
          HOLDFAST_QUERY_URL: Redacted.value((yield* Service.queryDatabase).url),
          HOLDFAST_DEMO_PASSWORD: Service.demoPassword,
          HOLDFAST_ORIGIN: origin,
          HOLDFAST_TRUSTED_PROXIES: "127.0.0.1/32"
        },
        handsOver: descriptorOf(server)
      })
      server.close()
      const json = { username: "demo", password: Service.demoPassword }
      const login = Browser.make(`http://127.0.0.1:${port}`).send("POST", "/login", { json })
      const early = yield* Effect.forkScoped(login, { startImmediately: true })
      return { port, service, early: Fiber.join(early) }
    })
  )
}

layer(Deployed.layer, { excludeTestServices: true, timeout: "60 seconds" })("the service of docs/deploy", (it) => {
  it.effect("listens on a socket that is handed over: a request before the start is answered after it", () =>
    Effect.gen(function* () {
      const { early, port, service } = yield* Deployed
      const { status, text: said } = yield* early
      assert.strictEqual(status, 200, said)
      assert.strictEqual(yield* Service.listening(service), `http://127.0.0.1:${port}`)
    })
  )

  it.effect(
    "over https through both proxies logs in with a __Host- cookie, runs a query, hears events as they come, and logs out",
    () =>
      Effect.gen(function* () {
        const { authority, path } = yield* certified
        const { port } = yield* Deployed
        const place = { path, port }
        const ports = yield* Effect.all([nginx(place), caddy(place)], { concurrency: 2 })
        const walk = Effect.fnUntraced(function* (port: number) {
          const { ask, send } = browserAt(port, authority)
          // A proxy that does not listen yet is no answer.
          yield* eventually(
            Effect.orElseSucceed(ask("GET", "/health/ready"), () => undefined),
            (ready) => ready?.status === 200,
            "20 seconds"
          )
          const login = yield* ask("POST", "/login", { username: "demo", password: Service.demoPassword })
          assert.strictEqual(login.status, 200, login.text)
          assert.match(String(login.headers["set-cookie"]), /^__Host-holdfast=[^;]+; .*Secure/)
          assert.isDefined(login.headers["strict-transport-security"])

          const submitted = yield* ask("POST", "/queries", { sql: "select 42 as answer" })
          assert.strictEqual(submitted.status, 202, submitted.text)
          const query = String(submitted.headers.location)
          // The stream ends with the query.
          assert.include((yield* ask("GET", `${query}/events`)).text, "Succeeded")
          assert.include((yield* ask("GET", `${query}/rows`)).text, "42")

          const events = yield* Effect.promise(() => send("GET", "/session/events"))
          // It stays open until the logout, so what is held back would never come.
          const ended = once(events, "end")
          let heard = ""
          events.setEncoding("utf8").on("data", (more: string) => (heard += more))
          const hears = (event: string) =>
            eventually(
              Effect.sync(() => heard),
              (all) => all.includes(`event: ${event}\n`)
            )
          yield* hears("session")
          assert.strictEqual((yield* ask("GET", "/metrics")).status, 404)
          assert.strictEqual((yield* ask("POST", "/logout")).status, 204)
          yield* hears("ended")
          yield* Effect.promise(() => ended)
          assert.strictEqual((yield* ask("GET", "/session")).status, 401)
        })
        yield* Effect.forEach(ports, walk, { concurrency: 2 })
      }).pipe(Effect.scoped)
  )
})
