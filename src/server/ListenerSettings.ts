/**
 * What the operator says of the listener: its certificate, how long it keeps connections, and how long it goes on when it is to stop.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Durations from "./Durations.ts"
import * as ListenerTls from "./ListenerTls.ts"
import { read, refuse } from "./SettingsReading.ts"

/** A duration between two others, and what to say of another. */
const between = Effect.fnUntraced(function* (
  variable: string,
  usual: string,
  minimum: Duration.Duration,
  maximum: Duration.Duration,
  problem: string
) {
  const text = yield* read(variable, (name) => Config.withDefault(Config.String(name), usual), "a duration")
  return yield* Option.match(Option.filter(Durations.parse(text), Duration.between({ minimum, maximum })), {
    onNone: () => refuse(variable, problem),
    onSome: Effect.succeed
  })
})

/** None by default: who asks for readiness once in a second or less needs two of these. */
export const drainDelay = between(
  "HOLDFAST_DRAIN_DELAY",
  "0s",
  Duration.zero,
  Duration.minutes(1),
  "must be a duration up to a minute, such as 5s"
)

/** By default, longer than common proxies keep theirs. */
export const keepAlive = between(
  "HOLDFAST_KEEP_ALIVE",
  "130s",
  Duration.seconds(1),
  Duration.hours(1),
  "must be a duration between a second and an hour, such as 620s"
)

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
