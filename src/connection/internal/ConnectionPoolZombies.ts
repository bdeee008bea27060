/**
 * Backends that a pool gave up: closed on our side while the server may still run something for them. Each stands in the
 * ledger until the server is seen to be rid of it.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Ledger from "../../lifetime/Ledger.ts"
import type { OpenConnection } from "../ConnectionSource.ts"

const expelGrace = Duration.seconds(1)

/** Zombies are awaited, for `patience` at most, when the current scope closes. */
export const make = Effect.fnUntraced(function* (source: string, patience: Duration.Duration) {
  const zombies = yield* FiberSet.make<void>()
  const buried = new Set<OpenConnection>()
  let grace = expelGrace
  // A pool that closes has no time to give: its zombies are ended now, and it waits to see it.
  yield* Effect.addFinalizer(() => {
    grace = Duration.zero
    const hurry = Effect.forEach(buried, ({ expel }) => expel(grace), { concurrency: "unbounded", discard: true })
    return Effect.timeoutOption(Effect.andThen(hurry, FiberSet.awaitEmpty(zombies)), patience)
  })
  return {
    /** Watches a backend until it is gone, and ends it after a second, or `after`. Returns the fiber that does so. */
    bury: (connection: OpenConnection, after?: Duration.Duration) =>
      FiberSet.run(
        zombies,
        Effect.acquireUseRelease(
          Effect.sync(() => buried.add(connection)),
          () => Effect.suspend(() => connection.expel(after ?? grace)),
          () => Effect.sync(() => buried.delete(connection))
        ).pipe(Ledger.during({ kind: "zombie", id: connection.id, attributes: { source } }))
      ),
    size: FiberSet.size(zombies)
  }
})

export type ConnectionPoolZombies = Effect.Success<ReturnType<typeof make>>
