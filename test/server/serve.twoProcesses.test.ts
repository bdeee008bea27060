import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import * as Service from "../support/service.ts"
import * as SessionCalls from "../support/sessionCalls.ts"
import { laws, Pair, startBeside, zone } from "./twoProcessesLaws.ts"

/** Two processes, one of which hears of ends through a network that can lose them. */
const pair = Effect.gen(function* () {
  const a = yield* Service.startService({ env: zone })
  const network = yield* FaultProxy.to(a.own.url)
  const b = yield* startBeside(a, { DATABASE_URL: Redacted.value(network.url) })
  const { name } = a.own
  return Pair.of({
    a,
    b,
    network,
    travel: a.travel,
    written: (id) =>
      Effect.map(
        SessionCalls.stored(name, `select xmin::text, last_seen_at::text from holdfast.sessions where id = '${id}'`),
        ([row]) => JSON.stringify(row)
      )
  })
})

laws("two processes on one database", Layer.effect(Pair, pair))

laws(
  "two processes on one database, of which one hears no notification",
  Layer.effect(
    Pair,
    Effect.tap(pair, ({ network }) => network.loseNotifications(true))
  ),
  "deaf"
)
