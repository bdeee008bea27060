/**
 * The databases of the service for a command that runs beside it, or without it.
 *
 * A command joins an embedded server that a running service holds. What it opens is closed when it ends.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Outages from "../lifetime/internal/Outages.ts"
import * as PgDirect from "../postgres/internal/PgDirect.ts"
import * as Databases from "../server/Databases.ts"
import * as SessionStores from "../server/SessionStores.ts"
import * as Settings from "../server/Settings.ts"
import * as Users from "../server/Users.ts"
import * as UsersMigrations from "../server/UsersMigrations.ts"
import { SessionStore } from "../session/SessionStore.ts"

/** A server that a command needs cannot be used. */
export class ServerUnusable extends Schema.TaggedError<ServerUnusable>("holdfast/cli/CommandDatabase/ServerUnusable")(
  "ServerUnusable",
  { outages: Schema.Array(Schema.String) }
) {
  override get message(): string {
    return `${this.outages.join(". ")}.`
  }
}

/** Fails with why a server cannot be used, where that is why a command failed. Nobody tries again. */
export const explained = <A, E, R>(command: Effect.Effect<A, E, R>): Effect.Effect<A, E | ServerUnusable, R> =>
  Effect.suspend(() => {
    const told: Array<string> = []
    const outages = Outages.makeUnsafe((line, isOver) => Effect.sync(() => void (isOver || told.push(line))))
    return command.pipe(
      Effect.mapError((error) =>
        told.length === 0 || error instanceof Settings.SettingsError ? error : new ServerUnusable({ outages: told })
      ),
      Effect.provideService(Outages.Outages, outages)
    )
  })

/** The users of a database. */
export const users = ({ own }: Databases.Databases) =>
  Users.layer.pipe(Layer.provide(PgDirect.layer("users", { url: own, maxConnections: 1 })))

/** The service's own database, with its tables, and its sessions. */
export const database = Effect.gen(function* () {
  const settings = yield* Settings.load
  const databases = yield* Databases.join(settings)
  yield* SessionStores.migrate(settings, databases)
  yield* UsersMigrations.migrate(databases.own)
  const store = yield* Layer.build(SessionStores.layer(settings, databases, { maxConnections: 2 }))
  // Nobody is changed whose sessions could not be ended after it.
  yield* Context.get(store, SessionStore).ping
  const services = Layer.merge(users(databases), Layer.succeedContext(store))
  /** Of users' own database roles, where there are any. */
  const roles = settings.queryRoles === "per-user" ? databases.queries : Option.none()
  return { services, roles }
})
