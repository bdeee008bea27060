/**
 * What the operator says of the listener: its certificate, and how long it goes on when it is to stop.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Durations from "./Durations.ts"
import * as ListenerTls from "./ListenerTls.ts"
import { read, refuse } from "./SettingsReading.ts"

/** None by default: who asks for readiness once in a second or less needs two of these. */
export const drainDelay = Effect.gen(function* () {
  const variable = "HOLDFAST_DRAIN_DELAY"
  const text = yield* read(variable, (name) => Config.withDefault(Config.String(name), "0s"), "a duration")
  const delay = Option.getOrUndefined(Durations.parse(text))
  if (delay === undefined || Duration.toMillis(delay) < 0 || Duration.toMillis(delay) > 60_000) {
    return yield* refuse(variable, "must be a duration up to a minute, such as 5s")
  }
  return delay
})

/** A certificate and its key, which may be in the same file. */
export const tls = Effect.gen(function* () {
  const [certVariable, keyVariable] = ["HOLDFAST_TLS_CERT", "HOLDFAST_TLS_KEY"] as const
  const path = (variable: string) => read(variable, (name) => Config.option(Config.String(name)), "the path of a file")
  const [cert, key] = [yield* path(certVariable), yield* path(keyVariable)]
  if (Option.isNone(cert)) {
    return Option.isNone(key) ? Option.none() : yield* refuse(keyVariable, `must not be set without ${certVariable}`)
  }
  const files = { cert: cert.value, key: Option.getOrElse(key, () => cert.value) }
  const problem = ListenerTls.problemOf(files)
  return problem === undefined
    ? Option.some(files)
    : yield* refuse(certVariable, `and ${keyVariable} must name a certificate and its key in PEM: ${problem}`)
})
