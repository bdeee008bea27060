/**
 * What the primitives cost. No database, no socket and no log is involved; the loop around them is included.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Lifetime from "../../src/lifetime/Lifetime.ts"
import { range, takeTurns } from "./measure.ts"

const times = 2000

const timed = (effect: Effect.Effect<unknown>) => async () => {
  const begun = performance.now()
  await Effect.runPromise(Effect.repeat(effect, { times: times - 1 }))
  return ((performance.now() - begun) * 1000) / times
}

const options = { kind: "bench", id: "bench" }

export const run = async () => {
  const results = await takeTurns(
    {
      "scope: fork and close": timed(
        Effect.scoped(
          Effect.flatMap(Effect.scope, (scope) =>
            Effect.flatMap(Scope.fork(scope), (child) => Scope.close(child, Exit.void))
          )
        )
      ),
      "lifetime: make and end": timed(Effect.scoped(Effect.flatMap(Lifetime.scoped(options), ({ end }) => end()))),
      acquireRelease: timed(Effect.scoped(Effect.acquireRelease(Effect.void, () => Effect.void))),
      "ledger: hold": timed(Effect.scoped(Ledger.hold(options, Effect.void, () => Effect.void)))
    },
    15,
    3
  )
  console.table(Array.from(results, ([name, values]) => ({ name, µs: range(values, 2) })))
}
