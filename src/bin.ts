#!/usr/bin/env node
/**
 * The program `holdfast`. Exit code 0 after a finished command or a signal, 1 after anything that went wrong.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import * as Cause from "effect/Cause"
import { Argument, CliError, Command, Flag } from "effect/cli"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"
import * as Serve from "./server/Serve.ts"
import * as UserCommand from "./server/UserCommand.ts"

const serve = Command.make("serve", {}, () => Serve.serve).pipe(
  Command.withDescription("Run the service. Configuration is by environment; see the README.")
)

const name = Argument.String("name").pipe(
  Argument.withDescription("The user's name"),
  Argument.withSchema(Schema.String.check(Schema.isPattern(/^[^\s\p{Cc}][^\p{Cc}]{0,127}$/u)))
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
  ({ name, operator }) => UserCommand.add(name, operator)
).pipe(
  Command.withDescription(
    "Make a user, or give one another password. The password comes from HOLDFAST_PASSWORD or standard input."
  )
)

const remove = Command.make("remove", { name }, ({ name }) => UserCommand.remove(name)).pipe(
  Command.withDescription("Remove a user and end their sessions.")
)

const endSessions = Command.make("end-sessions", { name }, ({ name }) => UserCommand.endSessions(name)).pipe(
  Command.withDescription("End the sessions of a user, who keeps their password.")
)

const endAllSessions = Command.make("end-all-sessions", {}, () => UserCommand.endAllSessions).pipe(
  Command.withDescription("End the sessions of all users, who keep their passwords.")
)

const user = Command.make("user").pipe(
  Command.withDescription("Manage users"),
  Command.withSubcommands([add, remove, endSessions, endAllSessions])
)

const holdfast = Command.make("holdfast").pipe(
  Command.withDescription("Sessions, connections and query fibers as scoped layers"),
  Command.withSubcommands([serve, user])
)

const Manifest = Schema.fromJsonString(Schema.Struct({ version: Schema.String }))
const { version } = Schema.decodeSync(Manifest)(readFileSync(new URL("../package.json", import.meta.url), "utf8"))

// A signal is an order that was carried out; any other interruption is something that went wrong.
let signalled = false
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    signalled = true
  })
}
const isOrdered = (cause: Cause.Cause<unknown>) => signalled && Cause.hasInterruptsOnly(cause)

// A terminal that closes is no reason to leave a database server behind.
process.on("SIGHUP", () => process.kill(process.pid, "SIGTERM"))

/** One line for what the user can change, everything for what they cannot. */
const report = <E>(cause: Cause.Cause<E>) => {
  if (isOrdered(cause)) return Effect.void
  const error = Cause.findErrorOption(cause)
  // The command line has said what is wrong with itself, with its help.
  if (error._tag === "Some" && CliError.isCliError(error.value)) return Effect.void
  return error._tag === "Some" && error.value instanceof Error
    ? Console.error(`holdfast: ${error.value.message}`)
    : Console.error(Cause.pretty(cause))
}

Command.run(holdfast, { version }).pipe(
  Effect.tapCause(report),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) || isOrdered(exit.cause) ? 0 : 1)
  })
)
