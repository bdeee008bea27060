/**
 * A web server in front of several instances, which takes turns and knows no sessions. It lives as long as its scope.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import { freePort } from "../../src/embedded/FreePort.ts"
import * as Programs from "./distributionPrograms.ts"

/** nginx over these instances, for the current scope: its port, and what it says about its errors. `more` are lines of its server. */
export const make = Effect.fnUntraced(function* (ports: ReadonlyArray<number>, more = "") {
  const { libraries, path } = yield* Programs.nginx
  const port = yield* freePort
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(Path.join(tmpdir(), "holdfast-nginx-"))),
    (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true }))
  )
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${directory}/${name};`)
    .join(" ")
  const servers = ports.map((each) => `server 127.0.0.1:${each} max_fails=1 fail_timeout=1s;`).join(" ")
  const file = Path.join(directory, "nginx.conf")
  writeFileSync(
    file,
    `daemon off; master_process off; pid ${directory}/pid; error_log ${directory}/error.log; events {}
    http { access_log off; ${temporary}
      upstream holdfast { ${servers} keepalive 32; }
      server { listen 127.0.0.1:${port};
        proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host:$server_port;
        proxy_next_upstream error timeout http_503; ${more}
        location / { proxy_pass http://holdfast; } } }`
  )
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(path, ["-c", file, "-e", `${directory}/error.log`], {
        stdio: "ignore",
        env: { ...process.env, ...(libraries !== undefined && { LD_LIBRARY_PATH: libraries }) }
      })
    ),
    (child) =>
      Effect.promise(async () => {
        const gone = once(child, "exit")
        child.kill("SIGTERM")
        await gone
      })
  )
  return { port, errors: () => readFileSync(`${directory}/error.log`, "utf8") }
})
