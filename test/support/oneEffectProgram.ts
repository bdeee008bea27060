/** Runs on the `effect` beside it, acquires something with Holdfast, and says what came of it. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Ledger from "holdfast/lifetime/Ledger"

let acquired = 0
const held = Ledger.hold(
  { kind: "thing", id: "one" },
  Effect.sync(() => ++acquired),
  () => Effect.void
)
const exit = await Effect.runPromiseExit(Effect.scoped(held))
const error = Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : undefined
console.log(JSON.stringify({ acquired, error }))
