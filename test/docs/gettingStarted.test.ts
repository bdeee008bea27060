import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { createServer } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import * as HttpApp from "../../docs/examples/http-app.ts"
import { freshDatabase } from "../support/postgres.ts"

/** What a document says that somebody types, and reads after it. */
const stepsOf = (document: string) => {
  const [, walk = ""] = /<!-- run http-app -->\n\n```console\n([\s\S]*?)```/.exec(readFileSync(document, "utf8")) ?? []
  return walk
    .split(/^\$ /m)
    .filter((step) => step !== "")
    .map((step) => {
      const [command = "", ...output] = step.trimEnd().split("\n")
      return { command, output }
    })
}

/** Types a line into a shell, and reads what it answers. */
const type = (command: string, cwd: string) =>
  Effect.promise(async () => {
    const shell = spawn("bash", ["-c", command], { cwd, env: { PATH: process.env["PATH"] } })
    const [out] = await Promise.all([text(shell.stdout), text(shell.stderr)])
    return out.trimEnd().split(/\r?\n/)
  })

/** Without what is different each time: the token, moments, headers of the connection, and the order within an object. */
const comparable = (lines: ReadonlyArray<string>) =>
  lines
    .filter((line) => !/^(?:Date|Connection|Keep-Alive): /.test(line))
    .map((line) =>
      line.replace(/holdfast-dev-(\d+)=[\w-]{43}/, "holdfast-dev-$1=…").replace(/Expires=[^;]+/, "Expires=…")
    )
    .map((line): unknown => (line.startsWith("{") ? JSON.parse(line) : line))

const started = Effect.gen(function* () {
  const { url } = yield* freshDatabase
  const config = ConfigProvider.layer(ConfigProvider.fromUnknown({ DATABASE_URL: Redacted.value(url) }))
  const server = Layer.provideMerge(HttpApp.app, NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
  const { address } = Context.get(yield* Layer.build(Layer.provide(server, config)), HttpServer.HttpServer)
  return HttpServer.formatAddress(address).replace("http://", "")
})

describe("the walk with curl", () => {
  for (const document of ["README.md", "docs/getting-started.md"]) {
    it.live(`of ${document} answers what the page says`, () =>
      Effect.gen(function* () {
        const host = yield* started
        const directory = yield* Effect.acquireRelease(
          Effect.sync(() => mkdtempSync(join(tmpdir(), "holdfast-walk-"))),
          (path) => Effect.sync(() => rmSync(path, { recursive: true }))
        )
        const steps = stepsOf(document)
        assert.isAbove(steps.length, 5)
        for (const { command, output } of steps) {
          const told = yield* type(command.replaceAll("localhost:3000", host), directory)
          assert.deepStrictEqual(comparable(told), comparable(output), command)
        }
      }).pipe(Effect.scoped, Effect.provideService(References.MinimumLogLevel, "None"))
    )
  }
})
