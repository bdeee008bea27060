/**
 * A program that serves the embedded database of a directory until it is ended, for tests that end it by force.
 *
 * Arguments: the directory of the checkout, the shared directory. It prints the server's port when it is ready.
 */
import * as Effect from "effect/Effect"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"

const [cwd = ".", sharedDirectory = "."] = process.argv.slice(2)

const program = Effect.gen(function* () {
  const { port } = yield* EmbeddedPostgres.make({ cwd, sharedDirectory })
  process.stdout.write(`${port}\n`)
  return yield* Effect.never
})

await Effect.runPromise(Effect.scoped(program))
