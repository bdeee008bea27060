/**
 * `holdfast user add`: makes users, beside a running service or without one.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { text } from "node:stream/consumers"
import * as PgSessionStore from "../session/PgSessionStore.ts"
import { SessionStore } from "../session/SessionStore.ts"
import * as Databases from "./Databases.ts"
import * as Settings from "./Settings.ts"
import * as Users from "./Users.ts"
import * as UsersMigrations from "./UsersMigrations.ts"

const refuse = (problem: string) => Effect.fail(new Settings.SettingsError({ variable: "HOLDFAST_PASSWORD", problem }))

/** From the environment, else all of standard input up to its last line end. */
const password = Effect.gen(function* () {
  const given = yield* Effect.orElseSucceed(Config.option(Config.Redacted("HOLDFAST_PASSWORD")), () => Option.none())
  const value = Option.isSome(given)
    ? given.value
    : process.stdin.isTTY
      ? yield* refuse(
          "must hold the password, or pipe it to standard input: printf %s 'secret' | holdfast user add NAME"
        )
      : Redacted.make((yield* Effect.promise(() => text(process.stdin))).replace(/\r?\n$/, ""))
  const bytes = Buffer.byteLength(Redacted.value(value))
  if (bytes === 0 || bytes > 1024)
    return yield* refuse(
      `must hold a password of 1 to 1,024 bytes, or pipe one to standard input: printf %s 'secret' | holdfast user add NAME`
    )
  return value
})

/** Makes the user, or gives an existing one this password and role and ends their sessions. */
export const add = Effect.fn("UserCommand.add")(function* (name: string, operator: boolean) {
  const settings = yield* Settings.load
  const secret = yield* password
  const { own } = yield* Databases.join(settings)
  yield* PgSessionStore.migrate({ url: own })
  yield* UsersMigrations.migrate(own)
  yield* Effect.flatMap(Users.Users, (users) => users.put({ name, operator, password: secret })).pipe(
    Effect.provide(Users.layer.pipe(Layer.provide(PgClient.layer({ url: own, maxConnections: 1 }))))
  )
  // After the password: a login that has seen the old one has asked for the epoch before, and is refused.
  yield* Effect.flatMap(SessionStore, (store) => store.revokeAll(name)).pipe(
    Effect.provide(PgSessionStore.layer({ url: own, maxConnections: 2 }))
  )
  yield* Console.log(`user ${name} ${operator ? "(operator) " : ""}can log in`)
}, Effect.scoped)
