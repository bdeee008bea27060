/**
 * The tables that the service needs with its settings: what is still to be made or changed, and how.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as PgDirect from "../postgres/internal/PgDirect.ts"
import * as PgFunctionMigrations from "../postgres/internal/PgFunctionMigrations.ts"
import * as PgMigrations from "../postgres/internal/PgMigrations.ts"
import * as PgQueryMigrations from "../postgres/internal/PgQueryMigrations.ts"
import * as PgSessionMigrations from "../postgres/internal/PgSessionMigrations.ts"
import type { Databases } from "./Databases.ts"
import * as FunctionServices from "./FunctionServices.ts"
import * as SessionStores from "./SessionStores.ts"
import type { Settings } from "./Settings.ts"
import * as SharedQueries from "./SharedQueries.ts"
import * as UsersMigrations from "./UsersMigrations.ts"

const schema = "holdfast"

/** Each kind of table, in the order in which they are made. */
export const all = (settings: Settings, databases: Databases) => {
  const pending = <E>(migrations: PgMigrations.Migrations<E>) =>
    Effect.provide(
      PgMigrations.pending(migrations),
      PgDirect.layer(migrations.of, { url: databases.own, maxConnections: 1 })
    )
  return [
    ...(Option.isNone(settings.redisUrl)
      ? [
          {
            of: "sessions",
            pending: pending(PgSessionMigrations.migrations(schema)),
            run: SessionStores.migrate(settings, databases)
          }
        ]
      : []),
    { of: "users", pending: pending(UsersMigrations.migrations), run: UsersMigrations.migrate(databases.own) },
    ...(settings.functions === "off"
      ? []
      : [
          {
            of: "functions",
            pending: pending(PgFunctionMigrations.migrations(schema)),
            run: FunctionServices.migrate(settings, databases)
          }
        ]),
    ...(settings.sharedQueries
      ? [
          {
            of: "queries",
            pending: pending(PgQueryMigrations.migrations(schema)),
            run: SharedQueries.migrate(settings, databases)
          }
        ]
      : [])
  ]
}
