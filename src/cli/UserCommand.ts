/**
 * `holdfast users`: makes users, shows them, removes them and ends their sessions, beside a running service or without one.
 */
import * as Prompt from "effect/cli/Prompt"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { flow } from "effect/Function"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { buffer } from "node:stream/consumers"
import { SessionStore } from "../session/SessionStore.ts"
import * as Passwords from "../server/Passwords.ts"
import * as QueryRoleRemoval from "../server/QueryRoleRemoval.ts"
import * as SecretFiles from "../server/SecretFiles.ts"
import * as Settings from "../server/Settings.ts"
import * as Users from "../server/Users.ts"
import { database, explained } from "./CommandDatabase.ts"
import * as Output from "./Output.ts"

const refuse = (problem: string) => Effect.fail(new Settings.SettingsError({ variable: "HOLDFAST_PASSWORD", problem }))

/** All of standard input. */
const input = Effect.promise(() => buffer(process.stdin)).pipe(
  Effect.flatMap((bytes) =>
    Effect.try({ try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes), catch: () => "no UTF-8" as const })
  ),
  Effect.catch(() => refuse("must be UTF-8, also where it is piped to standard input"))
)

/** From the environment or the file that it names, else asked for on a terminal, else all of standard input up to its last line end. */
const password = Effect.fnUntraced(function* (name: string) {
  const given = yield* SecretFiles.password
  const value = Option.isSome(given)
    ? given.value
    : process.stdin.isTTY
      ? yield* Prompt.run(Prompt.Hidden({ message: `Password of ${name}` }))
      : Redacted.make((yield* input).replace(/\r?\n$/, ""))
  const problem = Passwords.problemOf(value)
  if (problem !== undefined) {
    return yield* refuse(
      `${problem}. It can be piped to standard input: printf %s 'a password' | holdfast users add NAME`
    )
  }
  return value
})

/** There is nobody of a name. */
export class UserUnknown extends Schema.TaggedError<UserUnknown>("holdfast/cli/UserCommand/UserUnknown")(
  "UserUnknown",
  {
    name: Schema.String
  }
) {
  override get message(): string {
    return `There is no user ${JSON.stringify(this.name)}. holdfast users list shows those that there are.`
  }
}

export const unknown = (name: string) => Effect.fail(new UserUnknown({ name }))

/** Every instance of the service hears of it, and ends what the sessions hold. */
const endSessionsOf = (name: string) => Effect.flatMap(SessionStore, (store) => store.revokeAll(name))

const told = (name: string, ended: ReadonlyArray<unknown>, what = "") =>
  Console.log(`${what}${ended.length} ${ended.length === 1 ? "session" : "sessions"} of ${name} ended`)

/** Makes the user, or gives an existing one this password and role and ends their sessions. */
export const add = Effect.fn("UserCommand.add")(
  function* (name: string, operator: boolean) {
    const secret = yield* password(name)
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

/** Everybody who may log in, and who is an operator. */
export const list = (json: boolean) =>
  Effect.flatMap(database, ({ services }) =>
    Effect.provide(
      Effect.gen(function* () {
        const users = yield* Users.Users
        const names = yield* users.names
        const rows = yield* Effect.forEach(names, (name) =>
          Effect.map(users.isOperator(name), (operator) => ({ name, operator }))
        )
        yield* Output.rows(rows, { json, none: "There are no users. Make one: holdfast users add NAME" })
      }),
      services
    )
  ).pipe(Effect.scoped, explained)

/**
 * Removes the user, ends their sessions and removes their database role. Of one who is not there, what is left is removed, and it is
 * said that there is nobody.
 */
export const remove = Effect.fn("UserCommand.remove")(
  function* (name: string) {
    const { roles, services } = yield* database
    const { ended, isThere } = yield* Effect.gen(function* () {
      const users = yield* Users.Users
      const wasThere = yield* users.isThere(name)
      const debt = yield* users.remove(name)
      // As with a new password: a login that was under way is refused.
      const ended = yield* endSessionsOf(name)
      if (Option.isSome(debt)) yield* users.paid(debt.value)
      return { ended, isThere: wasThere }
    }).pipe(Effect.provide(services))
    if (isThere) yield* told(name, ended, `user ${name} is removed; `)
    if (Option.isSome(roles)) {
      const removed = yield* QueryRoleRemoval.remove(roles.value, name)
      if (removed !== undefined) yield* Console.log(QueryRoleRemoval.sentence(removed))
    }
    if (!isThere) return yield* unknown(name)
  },
  flow(Effect.scoped, explained)
)

/** Ends the sessions of a user, who keeps their password. */
export const endSessions = Effect.fn("UserCommand.endSessions")(
  function* (name: string) {
    const { services } = yield* database
    yield* Effect.gen(function* () {
      if (!(yield* (yield* Users.Users).isThere(name))) return yield* unknown(name)
      yield* told(name, yield* endSessionsOf(name))
    }).pipe(Effect.provide(services))
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
