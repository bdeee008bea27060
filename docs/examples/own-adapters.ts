// Adapters of your own: how a store becomes an app's sessions, and a query driver.
import { Effect, Exit, Layer } from "effect"
import { Ledger, QueryDriver, QueryError, SessionPruning } from "holdfast"
import type { SessionStore } from "holdfast"
import * as SessionOrigin from "holdfast/http/SessionOrigin"

// #region layer
/** A store becomes the sessions of an app: with its pruning, the cookie, and the guard against other sites. */
export const sessionsOf = <E, R>(
  store: Layer.Layer<SessionStore.SessionStore, E, R>,
  { origin, ...options }: SessionOrigin.Options & { readonly pruning?: SessionPruning.Options | false }
) => SessionOrigin.sessions(SessionPruning.withStore(store, options.pruning), { ...options, origin })
// #endregion

// #region driver
/** Counts to the number in the statement. */
const execute: QueryDriver.QueryConnection["execute"] = ({ sql }, sink, { onDone }) =>
  Effect.gen(function* () {
    const last = Number(/^count to (\d+)$/.exec(sql)?.[1])
    if (Number.isNaN(last)) {
      return yield* new QueryError.QueryError({
        reason: new QueryError.StatementFailed({ problem: "Write `count to` and a number" })
      })
    }
    yield* sink.columns([{ name: "n", type: "int4" }]) // once, also when there are no rows
    for (let n = 1; n <= last; n++) yield* sink.rows([[n]]) // waits for the reader
    const summary = { command: "COUNT", rowCount: last }
    onDone(Exit.succeed(summary)) // last, when the engine has said that it is done
    return summary
  })

/** Each connection lives in the scope that it was opened in, and stands in the ledger. */
export const layerCounter = Layer.succeed(
  QueryDriver.QueryDriver,
  QueryDriver.QueryDriver.of({
    open: Ledger.hold(
      { kind: "connection", id: "counter" },
      Effect.succeed({ id: "counter", execute }),
      () => Effect.void
    )
  })
)
// #endregion
