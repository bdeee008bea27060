/**
 * Where the log of the service goes and what it looks like.
 *
 * Lines go to standard output as soon as they are said. Those of the access log are gathered for up to a tenth of a second, so that
 * a request does not wait for who reads them; they are in order with the others, and all of them are written before the layer closes.
 */
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as LogLevel from "effect/LogLevel"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as LogFormat from "./LogFormat.ts"

export const formats = ["pretty", "logfmt", "json"] as const
export type Format = (typeof formats)[number]

/** What the operator may say, and what Effect calls it. */
export const levels = {
  trace: "Trace",
  debug: "Debug",
  info: "Info",
  warn: "Warn",
  error: "Error",
  none: "None"
} as const satisfies Readonly<Record<string, LogLevel.LogLevel>>
export type Level = keyof typeof levels

export interface Options {
  readonly format: Format
  readonly level: Level
}

/** On a terminal somebody reads it. */
export const usualFormat = (): Format => (process.stdout.isTTY ? "pretty" : "logfmt")

const writerOf = (format: Format) =>
  ({
    json: LogFormat.json,
    logfmt: LogFormat.logfmt,
    pretty: LogFormat.pretty(process.stdout.isTTY && !process.env["NO_COLOR"])
  })[format]

/** The log as it is written. */
export class Log extends Context.Service<
  Log,
  {
    /** Writes a line soon. */
    readonly later: (entry: LogFormat.Entry) => void
    /** Tells a person who has started the service, on standard error where a program reads standard output. */
    readonly announce: (line: string) => Effect.Effect<void>
  }
>()("holdfast/server/Logging/Log") {}

/** How long a line of the access log may wait. */
const gathered = "100 millis"

const make = Effect.fnUntraced(function* ({ format }: Options) {
  const write = writerOf(format)
  let waiting: Array<string> = []
  const flush = (): void => {
    if (waiting.length === 0) return
    const lines = `${waiting.join("\n")}\n`
    waiting = []
    process.stdout.write(lines)
  }
  const logger = Logger.map(LogFormat.entry, (entry) => {
    waiting.push(write(entry))
    flush()
  })
  yield* Effect.addFinalizer(() => Effect.sync(flush))
  return {
    logger,
    flushing: Effect.repeat(Effect.sync(flush), Schedule.spaced(gathered)),
    log: Log.of({
      later: (entry) => {
        waiting.push(write(entry))
      },
      announce: (line) => (format === "json" ? Console.error(line) : Console.log(line))
    })
  }
})

/** Takes the place of Effect's own loggers; `isGathering` where there is an access log. */
export const layer = (options: Options, isGathering: boolean): Layer.Layer<Log> =>
  Layer.unwrap(
    Effect.map(make(options), ({ flushing, log, logger }) =>
      Layer.mergeAll(
        Logger.layer([logger]),
        Layer.succeed(References.MinimumLogLevel, levels[options.level]),
        Layer.succeed(Log, log),
        isGathering ? Layer.effectDiscard(Effect.forkScoped(flushing)) : Layer.empty
      )
    )
  )
