/**
 * A registry over a driver without a server: the text of a statement is what it does, as JSON of a play.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import { QueryError, StatementFailed } from "../../src/query/QueryError.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import * as ScriptedQueryDriver from "../../src/testing/ScriptedQueryDriver.ts"

/** What a statement does. */
export interface Act {
  readonly rows?: number
  readonly turns?: number
  /** Runs until it is cancelled. */
  readonly hangs?: boolean
  readonly fails?: boolean
  readonly cancelTurns?: number
  readonly isDoneOnCancel?: boolean
}

/** A statement that does it. */
export const act = (act: Act) => ({ sql: JSON.stringify(act), params: [] })

export const hang = act({ hangs: true })

const play: ScriptedQueryDriver.Script = {
  execute: ({ sql }, sink, execution) => {
    const { cancelTurns, fails, hangs, isDoneOnCancel, rows = 0, turns = 0 } = JSON.parse(sql) as Act
    return ScriptedQueryDriver.answer(
      {
        rows: Array.from({ length: rows }, (_, index) => [index]),
        turns: hangs === true ? Number.POSITIVE_INFINITY : turns,
        error: fails === true ? new QueryError({ reason: new StatementFailed({ problem: "as asked" }) }) : undefined,
        cancelTurns,
        isDoneOnCancel
      },
      sink,
      execution
    )
  }
}

/** A registry of one's own, to be closed by hand or with the current scope. */
export const open = Effect.fnUntraced(function* (
  options?: QueryRegistry.Options,
  script?: ScriptedQueryDriver.Script,
  results: Layer.Layer<QueryResults.QueryResults> = QueryResults.layerMemory()
) {
  const { driver, log } = ScriptedQueryDriver.make({ ...play, ...script })
  const scope = yield* Scope.fork(yield* Effect.scope)
  const registry = yield* QueryRegistry.make({ drain: 0, ...options }).pipe(
    Scope.provide(scope),
    Effect.provide([ScriptedQueryDriver.layer(driver), results])
  )
  const submit = (statement: QueryRegistry.Submission["statement"], more: Partial<QueryRegistry.Submission> = {}) =>
    registry.submit({ statement, principal: "alice", ...more })
  return { registry, submit, log, close: Scope.close(scope, Exit.void) }
})

/** Runs with a scope and a ledger of one's own. */
export const alone = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  effect.pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))
