#!/usr/bin/env -S node --max-semi-space-size=16
/**
 * The program `holdfast`. Exit code 0 after a finished command or a signal, 1 after anything that went wrong.
 *
 * It bounds V8's space for new objects to half of what V8 takes by itself. That costs no time that could be measured, and a result of
 * millions of rows 80 MB less; V8 takes the bound at the start of the process alone.
 */
import { setFlagsFromString } from "node:v8"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as CliError from "effect/cli/CliError"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Help from "./cli/Help.ts"
import * as Holdfast from "./cli/Holdfast.ts"
import { manifest } from "./server/Manifest.ts"

// V8 makes what often survived directly in its old space. What a request makes survives while the request waits for the database, and
// would be left there, with all it leads to, until the next full collection: a third of the processor time of a request.
setFlagsFromString("--no-allocation-site-pretenuring")

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

// Output that nobody reads any more, as after `| head`, is lost and ends nothing.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined)

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

Command.run(Holdfast.command, { version: manifest.version }).pipe(
  Effect.tapCause(report),
  Effect.provide([NodeServices.layer, Help.layer]),
  // Standard output is for what a command was asked for. The service has a log of its own.
  Effect.provideService(Logger.LogToStderr, true),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) || isOrdered(exit.cause) ? 0 : 1)
  })
)
