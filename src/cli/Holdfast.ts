/**
 * The commands of `holdfast`: what they are called, what they take and what they load.
 *
 * A command loads its module when it runs, so that help and version need no package that a program can do without.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as OptionalPeer from "../server/OptionalPeer.ts"

const Serve = OptionalPeer.load(() => import("../server/Serve.ts"), "@effect/sql-pg")
const UserCommand = OptionalPeer.load(() => import("./UserCommand.ts"), "@effect/sql-pg")

const serve = Command.make("serve", {}, () => Effect.flatMap(Serve, ({ serve }) => serve)).pipe(
  Command.withDescription("Run the service. Configuration is by environment; see the README.")
)

const name = Argument.String("name").pipe(
  Argument.withDescription("The user's name"),
  // As long as the name of a login may be, in UTF-16 units. What is no UTF-8 arrives as U+FFFD.
  Argument.withSchema(
    Schema.String.check(Schema.isPattern(/^[^\s\p{Cc}\uFFFD][^\p{Cc}\uFFFD]*$/u), Schema.isMaxLength(128))
  )
)

const add = Command.make(
  "add",
  {
    name,
    operator: Flag.Boolean("operator").pipe(
      Flag.withDescription("May see what everybody holds"),
      Flag.withDefault(false)
    )
  },
  ({ name, operator }) => Effect.flatMap(UserCommand, ({ add }) => add(name, operator))
).pipe(
  Command.withDescription(
    "Make a user, or give one another password. The password comes from HOLDFAST_PASSWORD or standard input."
  )
)

const remove = Command.make("remove", { name }, ({ name }) =>
  Effect.flatMap(UserCommand, ({ remove }) => remove(name))
).pipe(
  Command.withDescription("Remove a user, end their sessions, and remove their database role. What it owned is left.")
)

const endSessions = Command.make("end-sessions", { name }, ({ name }) =>
  Effect.flatMap(UserCommand, ({ endSessions }) => endSessions(name))
).pipe(Command.withDescription("End the sessions of a user, who keeps their password."))

const endAllSessions = Command.make("end-all-sessions", {}, () =>
  Effect.flatMap(UserCommand, ({ endAllSessions }) => endAllSessions)
).pipe(Command.withDescription("End the sessions of all users, who keep their passwords."))

const user = Command.make("user").pipe(
  Command.withDescription("Manage users"),
  Command.withSubcommands([add, remove, endSessions, endAllSessions])
)

/** The whole command line. */
export const command = Command.make("holdfast").pipe(
  Command.withDescription("Sessions, connections and query fibers as scoped layers"),
  Command.withSubcommands([serve, user])
)
