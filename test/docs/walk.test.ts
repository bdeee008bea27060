import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import * as Service from "../support/service.ts"

const walk = /<!-- walk -->\n\n```sh\n([\s\S]*?)```/.exec(readFileSync("README.md", "utf8"))?.[1] ?? ""

/** Pastes lines into a shell, as a reader would. */
const paste = (lines: string, env: Readonly<Record<string, string>>, cwd: string) =>
  Effect.promise(async () => {
    const shell = spawn("bash", [], { cwd, env: { PATH: process.env["PATH"], ...env } })
    shell.stdin.end(lines)
    const [out, err] = await Promise.all([text(shell.stdout), text(shell.stderr)])
    return { out, err }
  })

describe("README", () => {
  it.live("the curl walk works when pasted", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService()
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "holdfast-walk-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      const lines = walk.replace("http://127.0.0.1:3000", service.url)
      const { err, out } = yield* paste(lines, { PASSWORD: Service.demoPassword }, directory)
      assert.strictEqual(err, "")
      assert.match(out, /"principal":"demo"/)
      assert.match(out, /"rows":\[\[1,7\],\[2,14\]\]/)
      assert.match(out, /"state":"Canceled"/)
    })
  )
})
