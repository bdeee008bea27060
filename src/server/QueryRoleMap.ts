/**
 * Database roles that exist already, one for each user, as an operator writes them down: a file of JSON,
 * `{"alice": {"role": "analyst", "password": "…"}}`.
 *
 * It is read when the service starts. A user who is not in it cannot run queries; `"*"` is for all users who are not.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Outages from "../lifetime/internal/Outages.ts"
import * as PgTarget from "../postgres/internal/PgTarget.ts"
import * as PgConnectionSource from "../postgres/PgConnectionSource.ts"

const Entry = Schema.Struct({ role: Schema.NonEmptyString, password: Schema.String })
const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Record(Schema.String, Entry)))

/** Who logs in for a user; nobody for a user who has no role. */
export type QueryRoleMap = (principal: string) => PgConnectionSource.Login | undefined

/** Whether a user has a role. */
export const HasRole = Context.Reference<(principal: string) => boolean>("holdfast/server/QueryRoleMap/HasRole", {
  defaultValue: () => () => true
})

/** Reads the text of such a file; `undefined` where it is none, or names nobody. */
export const parse = (text: Redacted.Redacted): QueryRoleMap | undefined => {
  const entries = Object.entries(Option.getOrElse(decode(Redacted.value(text)), () => ({})))
  if (entries.length === 0) return undefined
  const logins = new Map(
    entries.map(([user, { password, role }]) => [user, { username: role, password: Redacted.make(password) }])
  )
  return (principal) => logins.get(principal) ?? logins.get("*")
}

/**
 * How connections are opened as these roles. A role that the server does not let in is told to the log of outages: it is the
 * operator's to put right.
 */
export const layer = (options: Omit<PgConnectionSource.Options, "login" | "onRefused">, roles: QueryRoleMap) =>
  Layer.unwrap(
    Effect.map(Outages.Outages, (outages) => {
      const told = (principal: string) => {
        const where = `${PgTarget.whereOf(options.url)} as ${roles(principal)?.username ?? ""}`
        const name = `The database of queries for ${principal} (${where})`
        return outages.source({ name, where, source: "users' roles" }).failed("the server does not let this role in")
      }
      return PgConnectionSource.layer({
        ...options,
        login: roles,
        onRefused: (principal) => (principal === undefined ? Effect.void : told(principal))
      })
    })
  )

/** Where all users have one, or are given one, nobody is without. */
export const layerHasRole = (roles: "per-user" | "shared" | QueryRoleMap): Layer.Layer<never> =>
  typeof roles === "string" ? Layer.empty : Layer.succeed(HasRole, (principal) => roles(principal) !== undefined)
