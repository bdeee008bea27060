/**
 * A process that uses client sessions of every mode against two servers, a good and a silent one, and is then to exit by itself.
 * It says what its event loop held before and after.
 */
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as ClientSession from "../../src/client/ClientSession.ts"

const [good = "", silent = ""] = process.argv.slice(2)

const use = Effect.gen(function* () {
  const client = yield* HttpClient.HttpClient
  yield* Effect.forEach(Array.from({ length: 20 }), () => Effect.flatMap(client.get(good), ({ text }) => text), {
    concurrency: 10
  })
  yield* Effect.forkDetach(Effect.ignore(client.get(silent)), { startImmediately: true })
})

const resources = () =>
  process
    .getActiveResourcesInfo()
    .filter((kind) => !kind.startsWith("Pipe") && !kind.startsWith("TTY"))
    .toSorted()

const before = resources()
for (const reuse of ["none", "pooled", "shared"] as const) {
  await Effect.runPromise(Effect.provide(use, ClientSession.layer({ reuse, grace: "20 millis" })))
}
const after = resources()
console.log(JSON.stringify({ before, after }))
