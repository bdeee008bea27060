/**
 * `holdfast user`: makes users, removes them and ends their sessions, beside a running service or without one.
 */
import * as PgDirect from "../postgres/internal/PgDirect.ts"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { flow } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { buffer } from "node:stream/consumers"
import * as Outages from "../lifetime/internal/Outages.ts"
import { SessionStore } from "../session/SessionStore.ts"
import * as Databases from "../server/Databases.ts"
import * as Passwords from "../server/Passwords.ts"
import * as QueryRoleRemoval from "../server/QueryRoleRemoval.ts"
import * as SessionStores from "../server/SessionStores.ts"
import * as Settings from "../server/Settings.ts"
import * as Users from "../server/Users.ts"
import * as UsersMigrations from "../server/UsersMigrations.ts"

const refuse = (problem: string) => Effect.fail(new Settings.SettingsError({ variable: "HOLDFAST_PASSWORD", problem }))

/** All of standard input. */
const input = Effect.promise(() => buffer(process.stdin)).pipe(
  Effect.flatMap((bytes) =>
    Effect.try({ try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes), catch: () => "no UTF-8" as const })
  ),
  Effect.catch(() => refuse("must be UTF-8, also where it is piped to standard input"))
)

/** From the environment, else all of standard input up to its last line end. */
const password = Effect.gen(function* () {
  const given = yield* Effect.orElseSucceed(Config.option(Config.Redacted("HOLDFAST_PASSWORD")), () => Option.none())
  const value = Option.isSome(given)
    ? given.value
    : process.stdin.isTTY
      ? yield* refuse(
          "must hold the password, or pipe it to standard input: printf %s 'a password' | holdfast user add NAME"
        )
      : Redacted.make((yield* input).replace(/\r?\n$/, ""))
  const problem = Passwords.problemOf(value)
  if (problem !== undefined) {
    return yield* refuse(
      `${problem}. It can be piped to standard input: printf %s 'a password' | holdfast user add NAME`
    )
  }
  return value
})

/** A server that a command needs cannot be used. */
export class ServerUnusable extends Schema.TaggedError<ServerUnusable>("holdfast/cli/UserCommand/ServerUnusable")(
  "ServerUnusable",
  { outages: Schema.Array(Schema.String) }
) {
  override get message(): string {
    return `${this.outages.join(". ")}.`
  }
}

/** Fails with why a server cannot be used, where that is why a command failed. Nobody tries again. */
const explained = <A, E, R>(command: Effect.Effect<A, E, R>): Effect.Effect<A, E | ServerUnusable, R> =>
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

/** The service's own database, with its tables, and its sessions. */
const database = Effect.gen(function* () {
  const settings = yield* Settings.load
  const databases = yield* Databases.join(settings)
  yield* SessionStores.migrate(settings, databases)
  yield* UsersMigrations.migrate(databases.own)
  const store = yield* Layer.build(SessionStores.layer(settings, databases, { maxConnections: 2 }))
  // Nobody is changed whose sessions could not be ended after it.
  yield* Context.get(store, SessionStore).ping
  const services = Layer.merge(
    Users.layer.pipe(Layer.provide(PgDirect.layer("users", { url: databases.own, maxConnections: 1 }))),
    Layer.succeedContext(store)
  )
  /** Of users' own database roles, where there are any. */
  const roles = settings.queryRoles === "per-user" ? databases.queries : Option.none()
  return { services, roles }
})

/** Every instance of the service hears of it, and ends what the sessions hold. */
const endSessionsOf = (name: string) => Effect.flatMap(SessionStore, (store) => store.revokeAll(name))

const told = (name: string, ended: ReadonlyArray<unknown>, what = "") =>
  Console.log(`${what}${ended.length} ${ended.length === 1 ? "session" : "sessions"} of ${name} ended`)

/** Makes the user, or gives an existing one this password and role and ends their sessions. */
export const add = Effect.fn("UserCommand.add")(
  function* (name: string, operator: boolean) {
    const secret = yield* password
    yield* Effect.gen(function* () {
      const users = yield* Users.Users
      const debt = yield* users.put({ name, operator, password: secret })
      // After the password: a login that has seen the old one has asked for the epoch before, and is refused. Where this dies
      // before, the service does it.
      yield* endSessionsOf(name)
      yield* users.paid(debt)
    }).pipe(Effect.provide((yield* database).services))
    yield* Console.log(`user ${name} ${operator ? "(operator) " : ""}can log in`)
  },
  flow(Effect.scoped, explained)
)

/**
 * Removes the user, ends their sessions and removes their database role. One who is not there has none of it after it either.
 */
export const remove = Effect.fn("UserCommand.remove")(
  function* (name: string) {
    const { roles, services } = yield* database
    const ended = yield* Effect.gen(function* () {
      const users = yield* Users.Users
      const debt = yield* users.remove(name)
      // As with a new password: a login that was under way is refused.
      const ended = yield* endSessionsOf(name)
      if (Option.isSome(debt)) yield* users.paid(debt.value)
      return ended
    }).pipe(Effect.provide(services))
    yield* told(name, ended, `user ${name} is removed; `)
    if (Option.isNone(roles)) return
    const removed = yield* QueryRoleRemoval.remove(roles.value, name)
    if (removed !== undefined) yield* Console.log(QueryRoleRemoval.sentence(removed))
  },
  flow(Effect.scoped, explained)
)

/** Ends the sessions of a user, who keeps their password. */
export const endSessions = Effect.fn("UserCommand.endSessions")(
  function* (name: string) {
    yield* told(name, yield* Effect.provide(endSessionsOf(name), (yield* database).services))
  },
  flow(Effect.scoped, explained)
)

/** As {@link endSessions}, of everybody who may log in. */
export const endAllSessions = Effect.gen(function* () {
  const { names } = yield* Users.Users
  yield* Effect.forEach(yield* names, (name) => Effect.flatMap(endSessionsOf(name), (ended) => told(name, ended)))
}).pipe(
  (work) => Effect.flatMap(database, ({ services }) => Effect.provide(work, services)),
  Effect.withSpan("UserCommand.endAllSessions"),
  Effect.scoped,
  explained
)
