/**
 * What a start of the service says: where it listens, and what the operator should know of the configuration.
 *
 * Each is said once, when the service listens.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as SessionCookie from "../http/SessionCookie.ts"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as PgTarget from "../postgres/internal/PgTarget.ts"
import * as ClearText from "./ClearText.ts"
import type * as Databases from "./Databases.ts"
import * as Logging from "./Logging.ts"
import * as ServiceLife from "./ServiceLife.ts"
import type * as Settings from "./Settings.ts"

const sameTarget = (a: Redacted.Redacted<string>, b: Redacted.Redacted<string>) => {
  const [left, right] = [PgTarget.of(a), PgTarget.of(b)]
  return left.user === right.user || left.where === right.where
}

/** What the operator should know of the configuration. */
export const warnings = (settings: Settings.Settings, databases: Databases.Databases, origin: URL) =>
  Effect.gen(function* () {
    if (origin.protocol === "http:") {
      yield* LogEvent.warning(
        { event: "config.insecure" },
        `Development over http: the session cookie is ${SessionCookie.forOrigin(origin).name} and not Secure. Set HOLDFAST_ORIGIN to an https origin for anything else.`
      )
    }
    for (const { remedy, variable } of ClearText.found(settings)) {
      yield* LogEvent.warning(
        { event: "config.clear_text", variable },
        `${variable} leads beyond this machine without TLS: anybody on the way can read and change it. Give it ${remedy}, and set HOLDFAST_REQUIRE_TLS=on.`
      )
    }
    const targets = [
      ...Option.toArray(
        Option.map(settings.queryUrl, (url) => ({ kind: "postgres", url, variable: "HOLDFAST_QUERY_URL" }))
      ),
      ...settings.engines
    ]
    for (const { kind, url, variable } of targets) {
      if (kind !== "postgres" || !sameTarget(databases.own, url)) continue
      yield* LogEvent.warning(
        { event: "config.shared_database", variable },
        `${variable} has the role or the database of Holdfast's own tables: users' SQL could reach the sessions. Give it a role and a database of its own.`
      )
    }
  })

/** The first lines of a start, and what the log says of it. */
export const announce = (databases: Databases.Databases, url: string) =>
  Effect.gen(function* () {
    const { listening } = yield* ServiceLife.ServiceLife
    const { announce } = yield* Logging.Log
    yield* announce(`Holdfast listening on ${url}`)
    if (Option.isNone(databases.embedded)) return yield* listening(url)
    if (Option.isSome(databases.demo)) yield* announce(`user demo, password ${Redacted.value(databases.demo.value)}`)
    yield* announce(`embedded PostgreSQL, data in ${databases.embedded.value.directory}`)
    yield* listening(url)
  })
