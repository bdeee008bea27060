/**
 * Who holds the connections of a `ConnectionPool`, read from the ledger: for the error of a borrower that waited in vain, for
 * the report of a pool that closes, and to warn of leases that are held for too long. It watches as long as the pool lives.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as Ledger from "../../lifetime/Ledger.ts"
import type * as ConnectionPoolMetrics from "./ConnectionPoolMetrics.ts"
import type { Limits } from "./ConnectionPoolOptions.ts"

/** Watches the leases of one pool for the current scope. `heldMillis` tells how long each connection is lent, by its id. */
export const make = Effect.fnUntraced(function* (
  source: string,
  poolId: number,
  limits: Limits,
  metrics: ConnectionPoolMetrics.ConnectionPoolMetrics,
  heldMillis: () => ReadonlyMap<string, number>
) {
  const ledger = yield* Ledger.Ledger

  const isOurs = ({ attributes, kind }: Ledger.Holding) => kind === "connection" && attributes["pool"] === poolId
  const leases = Effect.map(ledger.holdings, (holdings) => holdings.filter(isOurs))
  const holders = Effect.map(ledger.holdings, (holdings) => {
    const byKey = new Map(holdings.map((holding) => [holding.key, holding]))
    const heldFor = heldMillis()
    return holdings.filter(isOurs).map(({ attributes, id, kind, parent, site }) => {
      const holder = parent === undefined ? undefined : byKey.get(parent)
      const owner = attributes["key"]
      return {
        kind: holder?.kind ?? kind,
        id: holder?.id ?? id,
        connection: id,
        owner: owner === undefined ? undefined : String(owner),
        // One that is given back just now is none of the pool's any more, but in the ledger still.
        heldForMillis: heldFor.get(id) ?? 0,
        site
      }
    })
  })

  /** Leases that were warned of, and for how long each was held when it was last seen, by their keys in the ledger. */
  const warned = new Map<number, { readonly id: string; readonly millis: number }>()
  const warnOfLeaks = Effect.flatMap(leases, (leases) => {
    const heldFor = heldMillis()
    const lines: Array<Effect.Effect<void>> = []
    for (const { id, key, site } of leases) {
      const millis = heldFor.get(id) ?? 0
      const isLate = millis >= Duration.toMillis(limits.leakWarning)
      if (isLate && !warned.has(key)) {
        const line = `Connection ${id} to ${source} has been leased for ${millis} ms. Is its scope ever closed?`
        lines.push(
          Metric.update(metrics.leaks, 1),
          LogEvent.warning({ event: "connection.leak", source, connection: id, millis }, line, { site })
        )
      }
      if (isLate) warned.set(key, { id, millis })
    }
    const left = new Set(leases.map(({ key }) => key))
    for (const [key, { id, millis }] of warned) {
      if (left.has(key)) continue
      warned.delete(key)
      lines.push(
        LogEvent.info(
          { event: "connection.no_leak", source, connection: id, millis },
          `Connection ${id} to ${source} came back after ${millis} ms, so it was no leak`
        )
      )
    }
    return Effect.all(lines, { discard: true })
  })
  yield* Effect.forkScoped(Effect.repeat(warnOfLeaks, Schedule.spaced("1 second")))

  return { holders }
})
