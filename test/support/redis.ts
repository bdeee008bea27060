/**
 * Keys and servers of Redis for tests.
 *
 * A prefix lives as long as the scope it was made in; at its end its keys are gone. A server of one's own is for tests
 * that take it away.
 */
import { randomBytes } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { createClient } from "redis"
import { inject } from "vitest"
import * as TestRedis from "../../src/testing/TestRedis.ts"

/** The shared server of the test run. */
export const redisUrl = Effect.sync(() => Redacted.make(inject("redisUrl")))

/** What Redis answers: bulk strings and statuses as text. */
export type Reply = string | number | null | ReadonlyArray<Reply>

/** Sends a test's own commands. */
export interface Client {
  readonly send: (...command: ReadonlyArray<string>) => Effect.Effect<Reply, Error>
}

/** A connection of the test's own, beside the program's, to a server (default: the shared one). */
export const client = (url = redisUrl): Effect.Effect<Client, Error, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.flatMap(url, (url) =>
      Effect.tryPromise({
        try: async () => {
          const client = createClient({ url: Redacted.value(url), RESP: 2, socket: { reconnectStrategy: false } })
          // Without a listener an error would end the process; the commands fail with it anyway.
          client.on("error", () => undefined)
          await client.connect()
          return client
        },
        catch: (cause) => (cause instanceof Error ? cause : new Error(String(cause)))
      })
    ),
    (client) => Effect.sync(() => client.isOpen && client.destroy())
  ).pipe(
    Effect.map((client) => ({
      send: (...command) =>
        Effect.tryPromise({
          try: () => client.sendCommand<Reply>(command),
          catch: (cause) => (cause instanceof Error ? cause : new Error(String(cause)))
        })
    }))
  )

/** The keys of a prefix. It walks through all of the server's. */
export const keysOf = Effect.fnUntraced(function* ({ send }: Client, prefix: string) {
  const keys: Array<string> = []
  let cursor = "0"
  do {
    const reply = yield* send("SCAN", cursor, "MATCH", `${prefix}*`, "COUNT", "1000")
    const [next, found] = Array.isArray(reply) ? reply : ["0", []]
    cursor = String(next)
    if (Array.isArray(found)) keys.push(...found.map(String))
  } while (cursor !== "0")
  return keys.toSorted()
})

/** A prefix for keys on the shared server that nobody else has. Its keys are removed at the end. */
export const freshPrefix: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => `test_${randomBytes(8).toString("hex")}`),
  (prefix) =>
    client().pipe(
      Effect.flatMap(
        Effect.fnUntraced(function* (client) {
          const keys = yield* keysOf(client, prefix)
          if (keys.length > 0) yield* client.send("UNLINK", ...keys)
        })
      ),
      Effect.scoped,
      // A server that is given, and is away by now, keeps them.
      Effect.ignore
    )
)

/** A server of the test's own, to be taken away. */
export const ownServer = TestRedis.make
