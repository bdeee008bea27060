/**
 * Watching a program: metrics for Prometheus, a table of what happens to sessions, and what the program holds now.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as SqlClient from "effect/sql/SqlClient"
import * as Ledger from "holdfast/lifetime/Ledger"
import * as SessionAudit from "holdfast/session/SessionAudit"

// #region metrics
/** `GET /metrics`. Add it to the routes of your app, and let your proxy close it to the outside. */
export const layerMetrics = PrometheusMetrics.layerHttp()
// #endregion

// #region audit
/** Logs and counts as before, and writes each event of a session to a table. A failure is logged and stops no request. */
export const layerAudit = Layer.unwrap(
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const log = SessionAudit.makeUnsafe()
    const write = (event: SessionAudit.Event) =>
      // There may be very many refused tokens: they are counted, and fill no table.
      event._tag === "Refused"
        ? Effect.void
        : sql`insert into session_events (session, event) values (${event.session}, ${event._tag})`.pipe(
            Effect.catch((error) => Effect.logError("A session event was not written", error.message))
          )
    return SessionAudit.layer({
      flush: log.flush,
      note: (event) => Effect.andThen(log.note(event), write(event))
    })
  })
)
// #endregion

// #region held
/** Everything that the program holds open, the oldest first. */
export const held = Effect.gen(function* () {
  const ledger = yield* Ledger.Ledger
  const holdings = yield* ledger.holdings
  return holdings.map(({ id, kind, site, state }) => `${kind} ${id} (${state}), taken at ${site ?? "an unknown place"}`)
})
// #endregion
