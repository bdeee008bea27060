import { execFile } from "node:child_process"
import { promises as Fs } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const checkout = Path.join(import.meta.dirname, "../..")
const ours = Path.join(checkout, "node_modules/effect")

const decode = Schema.decodeUnknownEffect(
  Schema.fromJsonString(Schema.Struct({ acquired: Schema.Number, error: Schema.optionalKey(Schema.String) }))
)

/** Runs the program in a directory of its own, beside Holdfast and a copy of `effect` or the one that Holdfast imports. */
const run = (effect: "copy" | "link") =>
  Effect.gen(function* () {
    const directory = yield* Effect.acquireRelease(
      Effect.promise(async () => Fs.realpath(await Fs.mkdtemp(Path.join(tmpdir(), "holdfast-effect-")))),
      (directory) => Effect.promise(() => Fs.rm(directory, { recursive: true, force: true }))
    )
    const theirs = Path.join(directory, "node_modules/effect")
    const program = Path.join(directory, "program.ts")
    const { stdout } = yield* Effect.promise(async () => {
      await Fs.mkdir(Path.dirname(theirs))
      await Fs.symlink(checkout, Path.join(directory, "node_modules/holdfast"), "junction")
      if (effect === "link") await Fs.symlink(ours, theirs, "junction")
      else {
        await Fs.mkdir(theirs)
        await Fs.copyFile(Path.join(ours, "package.json"), Path.join(theirs, "package.json"))
        const isCode = (file: string) => Path.extname(file) === "" || file.endsWith(".js")
        await Fs.cp(Path.join(ours, "dist"), Path.join(theirs, "dist"), { recursive: true, filter: isCode })
      }
      await Fs.copyFile(Path.join(checkout, "test/support/oneEffectProgram.ts"), program)
      return promisify(execFile)(process.execPath, ["--conditions=holdfast-source", program], { cwd: directory })
    })
    return { theirs, ...(yield* decode(stdout)) }
  }).pipe(Effect.scoped)

describe("two copies of effect", () => {
  it.live("the first thing that Holdfast acquires fails, and says where both are and what to do", () =>
    Effect.gen(function* () {
      const { acquired, error = "", theirs } = yield* run("copy")
      assert.strictEqual(acquired, 0)
      assert.include(error, `Holdfast imports ${ours}; the program runs on ${theirs}.`)
      assert.match(error, /^TwoCopiesOfEffect: [^\n]+`npm ls effect`[^\n]+`npm dedupe`[^\n]+peerDependencies\.$/)
    })
  )

  it.live("one copy is no trouble, also where it is reached by a link", () =>
    Effect.gen(function* () {
      const { acquired, error } = yield* run("link")
      assert.deepStrictEqual({ acquired, error }, { acquired: 1, error: undefined })
    })
  )
})
