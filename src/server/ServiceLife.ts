/**
 * What the log says of the service itself: that it listens, that it begins to end and what is still to end, and that it is over.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import { manifest } from "./Manifest.ts"

/** When the service began to listen, and to drain. */
export class ServiceLife extends Context.Service<
  ServiceLife,
  { readonly listening: (url: string) => Effect.Effect<void>; readonly draining: Effect.Effect<void> }
>()("holdfast/server/ServiceLife") {}

/** How many of a kind are held. */
const held = ({ acquired, released }: Ledger.Totals = { acquired: 0, released: 0, failed: 0, stalled: 0 }) =>
  acquired - released

/** Says the last words when it closes: put it below everything else. */
export const layer: Layer.Layer<ServiceLife> = Layer.effect(
  ServiceLife,
  Effect.gen(function* () {
    const ledger = yield* Ledger.Ledger
    let isListening = false
    let since: number | undefined
    yield* Effect.addFinalizer(() => {
      const millis = since === undefined ? undefined : Math.round(performance.now() - since)
      return isListening ? LogEvent.info({ event: "service.stopped", millis }, "Holdfast has stopped") : Effect.void
    })
    return ServiceLife.of({
      listening: (url) =>
        Effect.suspend(() => {
          isListening = true
          const { version } = manifest
          const { node } = process.versions
          return LogEvent.info({ event: "service.started", url, version, node }, "Holdfast is listening")
        }),
      draining: Effect.flatMap(ledger.totals, (totals) => {
        since = performance.now()
        const [queries, executions, streams] = ["query", "execution", "event stream"].map((kind) =>
          held(totals.get(kind))
        )
        return LogEvent.info({ event: "service.draining", queries, executions, streams }, "Holdfast is stopping")
      })
    })
  })
)

/** Says what is still to end when it closes. */
export const layerDraining: Layer.Layer<never, never, ServiceLife> = Layer.effectDiscard(
  Effect.flatMap(ServiceLife, ({ draining }) => Effect.addFinalizer(() => draining))
)
