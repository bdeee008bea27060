/**
 * Functions: scripts that users send once and execute many times, in a sandbox.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as FunctionRuntime from "holdfast/function/FunctionRuntime"
import * as Functions from "holdfast/function/Functions"
import * as HostCall from "holdfast/function/HostCall"
import * as MicroPythonRuntime from "holdfast/micropython/MicroPythonRuntime"
import * as PgFunctionStore from "holdfast/postgres/PgFunctionStore"
import * as QuickJsRuntime from "holdfast/quickjs/QuickJsRuntime"

// #region host
/** What scripts may call, as `await host.priceOf("tea")`. They get nothing else of the program. */
export const host = {
  priceOf: HostCall.make({
    args: Schema.Tuple([Schema.String]),
    success: Schema.Finite,
    run: ([product]) => (product === "tea" ? Effect.succeed(3.5) : Effect.fail(new Error(`There is no ${product}`)))
  })
}
// #endregion

// #region engine
/** JavaScript, TypeScript and Python, four at a time, with functions that all instances of the program find. */
export const layerFunctions = (url: Redacted.Redacted<string>) =>
  Functions.layer({ maxRunning: 4, deadline: "10 seconds" }).pipe(
    Layer.provide([
      FunctionRuntime.layerAll([
        QuickJsRuntime.layer({ maxWorkers: 4, host }),
        MicroPythonRuntime.layer({ maxWorkers: 4 })
      ]),
      PgFunctionStore.layer({ url })
    ])
  )
// #endregion

// #region use
/** Creates a function, executes it and waits for its result, a JSON text. */
export const total = Effect.gen(function* () {
  const functions = yield* Functions.Functions
  const { id } = yield* functions.create({
    principal: "alice",
    language: "javascript",
    script: `export default async ({ count }, { currency }) => {
      console.log("asking for the price")
      return { total: count * (await host.priceOf("tea")), currency }
    }`,
    context: JSON.stringify({ currency: "EUR" })
  })
  const execution = yield* functions.execute({ principal: "alice", function: id, params: JSON.stringify({ count: 2 }) })
  return yield* functions.await("alice", execution.id)
})
// #endregion
