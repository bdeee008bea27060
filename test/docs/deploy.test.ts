/**
 * The files under docs/deploy, held against the programs that read them.
 */
import { assert, describe, it } from "@effect/vitest"
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Certificate from "../support/certificate.ts"
import * as Programs from "../support/distributionPrograms.ts"

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(Path.join(tmpdir(), "holdfast-deploy-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

describe("docs/deploy", () => {
  it.effect("nginx takes its configuration", () =>
    Effect.gen(function* () {
      const path = yield* directory
      const { cert, key } = Certificate.make()
      writeFileSync(Path.join(path, "cert.pem"), cert)
      writeFileSync(Path.join(path, "key.pem"), key)
      const conf = readFileSync("docs/deploy/nginx/holdfast.conf", "utf8")
        .replaceAll("/etc/letsencrypt/live/example.org/fullchain.pem", Path.join(path, "cert.pem"))
        .replaceAll("/etc/letsencrypt/live/example.org/privkey.pem", Path.join(path, "key.pem"))
        .replaceAll(/listen (?:443|80)\b/g, (listen) =>
          listen.endsWith("443") ? "listen 127.0.0.1:20443" : "listen 127.0.0.1:20080"
        )
      const file = Path.join(path, "nginx.conf")
      const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
        (name) => `${name}_temp_path ${path}/${name};`
      )
      writeFileSync(
        file,
        `pid ${path}/pid; error_log stderr; events {} http { access_log off; ${temporary.join(" ")} ${conf} }`
      )
      const { code, output } = yield* Programs.run(yield* Programs.nginx, ["-t", "-e", "stderr", "-c", file])
      assert.strictEqual(code, 0, output)
      assert.notMatch(output, /\[(?:warn|emerg)\]/)
    })
  )

  it.effect("systemd takes its unit and its socket", () =>
    Effect.gen(function* () {
      const path = yield* directory
      const unit = Path.join(path, "holdfast.service")
      // Its program and its file are the operator's.
      const text = readFileSync("docs/deploy/systemd/holdfast.service", "utf8")
        .replace(/^ExecStart=\S+/m, `ExecStart=${process.execPath}`)
        .replace(/^EnvironmentFile=/m, "EnvironmentFile=-")
      writeFileSync(unit, text)
      const socket = Path.join(path, "holdfast.socket")
      copyFileSync("docs/deploy/systemd/holdfast.socket", socket)
      const { code, output } = yield* Programs.run(yield* Programs.systemdAnalyze, ["verify", unit, socket])
      const ours = output.split("\n").filter((line) => /holdfast\.(?:service|socket)/.test(line))
      assert.deepStrictEqual([code, ours], [0, []], output)
    })
  )

  it.effect("Caddy takes its configuration", () =>
    Effect.gen(function* () {
      const { code, output } = yield* Programs.run(yield* Programs.caddy, [
        "validate",
        "--adapter",
        "caddyfile",
        "--config",
        "docs/deploy/caddy/Caddyfile"
      ])
      assert.strictEqual(code, 0, output)
      assert.include(output, "Valid configuration")
    })
  )
})
