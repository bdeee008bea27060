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
import * as Output from "./Output.ts"

const Serve = OptionalPeer.load(() => import("../server/Serve.ts"), "@effect/sql-pg")
const UserCommand = OptionalPeer.load(() => import("./UserCommand.ts"), "@effect/sql-pg")
const SessionCommand = OptionalPeer.load(() => import("./SessionCommand.ts"), "@effect/sql-pg")
const MigrateCommand = OptionalPeer.load(() => import("./MigrateCommand.ts"), "@effect/sql-pg")
const DoctorCommand = OptionalPeer.load(() => import("./DoctorCommand.ts"), "@effect/sql-pg")
const ConfigCommand = OptionalPeer.load(() => import("./ConfigCommand.ts"), "@effect/sql-pg")
const ServiceCommand = Effect.promise(() => import("./ServiceCommand.ts"))

/** A line for each thing reads well everywhere. */
const jsonIfAsked = Flag.Boolean("json").pipe(Flag.withDescription("JSON instead of lines"), Flag.withDefault(false))

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
    "Make a user, or give one another password. The password comes from HOLDFAST_PASSWORD, from the file that HOLDFAST_PASSWORD_FILE names or from standard input, or is asked for on a terminal."
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

const listUsers = Command.make("list", { json: Output.json }, ({ json }) =>
  Effect.flatMap(UserCommand, ({ list }) => list(json))
).pipe(Command.withDescription("Show everybody who may log in."))

const users = Command.make("users").pipe(
  Command.withDescription("Manage users"),
  Command.withSubcommands([listUsers, add, remove, endSessions, endAllSessions]),
  Command.withExamples([
    { command: "holdfast users add alice --operator", description: "Make an operator; the password is asked for" },
    { command: "printf %s 'a password' | holdfast users add bob", description: "The same from a script" },
    { command: "holdfast users list --json", description: "Everybody, for a program" }
  ])
)

/** As it was called first. */
const user = Command.make("user").pipe(
  Command.withDescription("The same as users"),
  Command.withSubcommands([add, remove, endSessions, endAllSessions]),
  Command.unlisted
)

const id = Argument.String("id").pipe(Argument.withDescription("Its id"))

const sessions = Command.make("sessions").pipe(
  Command.withDescription("Live sessions, straight from their store"),
  Command.withSubcommands([
    Command.make("list", { name: Argument.optional(name), json: Output.json }, ({ json, name }) =>
      Effect.flatMap(SessionCommand, ({ list }) => list(name, json))
    ).pipe(Command.withDescription("Show the sessions of a user, or of everybody.")),
    Command.make("show", { id, json: Output.json }, ({ id, json }) =>
      Effect.flatMap(SessionCommand, ({ show }) => show(id, json))
    ).pipe(Command.withDescription("Show one.")),
    Command.make("end", { id }, ({ id }) => Effect.flatMap(SessionCommand, ({ end }) => end(id))).pipe(
      Command.withDescription("End one, on every instance, with all that it holds.")
    )
  ]),
  Command.withExamples([
    { command: "holdfast sessions list alice", description: "Where alice is logged in" },
    { command: "holdfast sessions end s_60ceef62-6136-4ff0-847e-139c232a5ecd", description: "End one of them" }
  ])
)

const service = {
  url: Flag.String("url").pipe(
    Flag.withDescription("Where the service is"),
    Flag.withDefault(`http://127.0.0.1:${process.env["PORT"] ?? 3000}`)
  ),
  user: Flag.String("user").pipe(
    Flag.withDescription(
      "Who logs in; the password is that in HOLDFAST_PASSWORD or in the file HOLDFAST_PASSWORD_FILE, or is asked for"
    ),
    Flag.withDefault("demo")
  ),
  json: Output.json
}

const queries = Command.make("queries").pipe(
  Command.withDescription("The queries of a user, from a running service"),
  Command.withSubcommands([
    Command.make("list", service, (options) => Effect.flatMap(ServiceCommand, ({ queries }) => queries(options))).pipe(
      Command.withDescription("Show the latest.")
    ),
    Command.make("show", { id, ...service }, ({ id, ...options }) =>
      Effect.flatMap(ServiceCommand, ({ query }) => query(id, options))
    ).pipe(Command.withDescription("Show one.")),
    Command.make("cancel", { id, ...service }, ({ id, ...options }) =>
      Effect.flatMap(ServiceCommand, ({ cancel }) => cancel(id, options))
    ).pipe(Command.withDescription("Cancel one, and wait until its connection is back."))
  ]),
  Command.withExamples([{ command: "holdfast queries list --user alice", description: "What alice has submitted" }])
)

const functions = Command.make("functions").pipe(
  Command.withDescription("The functions of a user, from a running service"),
  Command.withSubcommands([
    Command.make("list", service, (options) =>
      Effect.flatMap(ServiceCommand, ({ functions }) => functions(options))
    ).pipe(Command.withDescription("Show them."))
  ])
)

const holdings = Command.make("holdings", service, (options) =>
  Effect.flatMap(ServiceCommand, ({ holdings }) => holdings(options))
).pipe(
  Command.withDescription("Show what a running service holds open, as a tree. For operators."),
  Command.withExamples([{ command: "holdfast holdings --json", description: "The same for a program" }])
)

const top = Command.make("top", service, (options) => Effect.flatMap(ServiceCommand, ({ top }) => top(options))).pipe(
  Command.withDescription("Watch what a running service holds open, until Ctrl-C. For operators.")
)

const migrate = Command.make(
  "migrate",
  {
    dryRun: Flag.Boolean("dry-run").pipe(
      Flag.withDescription("Say what is to be done, and do nothing"),
      Flag.withDefault(false)
    )
  },
  ({ dryRun }) => Effect.flatMap(MigrateCommand, ({ migrate }) => migrate(dryRun))
).pipe(
  Command.withDescription("Bring the tables up to date. The service does it as well when it starts."),
  Command.withExamples([{ command: "holdfast migrate --dry-run", description: "See what an upgrade will change" }])
)

const prune = Command.make("prune", {}, () => Effect.flatMap(MigrateCommand, ({ prune }) => prune)).pipe(
  Command.withDescription("Remove sessions that are over for a day. The service does it as well, little by little.")
)

const doctor = Command.make("doctor", { json: jsonIfAsked }, ({ json }) =>
  Effect.flatMap(DoctorCommand, ({ doctor }) => doctor(json))
).pipe(
  Command.withDescription("Look at everything that the service needs, and say why something will not do."),
  Command.withExamples([{ command: "holdfast doctor && holdfast serve", description: "Start only where all is well" }])
)

const config = Command.make("config", { json: Output.json }, ({ json }) =>
  Effect.flatMap(ConfigCommand, ({ config }) => config(json))
).pipe(Command.withDescription("Show the configuration that is in force. Secrets are hidden."))

/** The whole command line. */
export const command = Command.make("holdfast").pipe(
  Command.withDescription("Sessions, connections and query fibers as scoped layers"),
  Command.withSubcommands([
    serve,
    doctor,
    config,
    migrate,
    prune,
    users,
    user,
    sessions,
    queries,
    functions,
    holdings,
    top
  ]),
  Command.withExamples([
    { command: "holdfast serve", description: "Run the service, with a database of its own where none is named" },
    { command: "holdfast doctor", description: "See whether everything is there that it needs" },
    {
      command: "holdfast --completions bash > /etc/bash_completion.d/holdfast",
      description: "Complete commands with Tab"
    }
  ])
)
