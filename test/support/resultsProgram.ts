/**
 * A program that keeps rows in a directory. `leave <directory>` says that it has some and waits to be killed;
 * `fill <directory>` adds rows until it is refused and says why, and what is left once the result is closed.
 */
import { readdirSync } from "node:fs"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as FileQueryResults from "../../src/node/FileQueryResults.ts"
import { QueryError } from "../../src/query/QueryError.ts"
import * as QueryId from "../../src/query/QueryId.ts"

const [, , task, directory = ""] = process.argv
const owner = () => ({ id: QueryId.make(), principal: "alice" })
const row = ["x".repeat(1000)]

const program = Effect.gen(function* () {
  const results = yield* FileQueryResults.make({ directory, memoryBytes: 0 })
  const add = Effect.flatMap(results.open(owner()), ({ sink }) => sink.rows([row]))
  if (task === "leave") {
    yield* add
    console.log("ready")
    return yield* Effect.never
  }
  const error = yield* Effect.flatMap(results.open(owner()), ({ sink }) =>
    Effect.flip(Effect.forever(sink.rows([row, row])))
  ).pipe(Effect.scoped)
  const left = readdirSync(directory, { recursive: true }).filter((name) => String(name).endsWith(".jsonl"))
  yield* Effect.scoped(add)
  console.log(JSON.stringify({ error: Schema.encodeSync(QueryError)(error).reason, message: error.message, left }))
}).pipe(Effect.scoped)

// Something has to keep the process alive while it waits to be killed.
setInterval(() => undefined, 1000).unref()
if (task === "leave") process.stdin.resume()
await Effect.runPromise(program)
