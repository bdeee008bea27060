/** A server for Snowflake over a PostgreSQL of its own, in a process of its own, until its input ends. Tells its URL and its token. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { once } from "node:events"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as SnowflakeServer from "../../src/testing/SnowflakeServer.ts"

const program = Effect.gen(function* () {
  const { superuserUrl } = yield* TestPostgres.make()
  const server = yield* SnowflakeServer.make({ url: superuserUrl, partitionBytes: Number(process.argv[2]) })
  console.log(JSON.stringify({ url: server.url, token: Redacted.value(server.token) }))
  process.stdin.resume()
  yield* Effect.promise(() => once(process.stdin, "end"))
})

await Effect.runPromise(Effect.scoped(program))
