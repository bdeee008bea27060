/**
 * A line of the log in the ways it can be written: for a person, as logfmt, or as JSON.
 *
 * Every entry is one line, but for the cause of a fault where a person reads it. It begins with the date in UTC and the level; the
 * event and its fields follow the words.
 */
import * as Context from "effect/Context"
import * as Logger from "effect/Logger"
import * as Tracer from "effect/Tracer"

/** What is said. */
export interface Entry {
  /** ISO 8601, in UTC. */
  readonly timestamp: string
  readonly level: string
  readonly message: string
  /** Of an event, with its name first, and of the trace that it happened in. */
  readonly fields: Readonly<Record<string, unknown>>
  readonly cause?: string | undefined
}

const isFields = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Words are put together, and values that come with them are fields. */
const spoken = (message: unknown) => {
  const parts = Array.isArray(message) ? message : [message]
  const words = parts
    .filter((part) => !isFields(part))
    .map((part) => (typeof part === "string" ? part : JSON.stringify(part)))
  return { message: words.join(": "), details: Object.assign({}, ...parts.filter(isFields)) as Record<string, unknown> }
}

/** What Effect's logger is told, as an {@link Entry}. */
export const entry: Logger.Logger<unknown, Entry> = Logger.make((options) => {
  const { annotations, cause, level, message, timestamp } = Logger.formatStructured.log(options)
  const { details, message: words } = spoken(message)
  // Where nobody is told of spans, their ids lead nowhere.
  const isTraced = options.fiber.getRef(Tracer.Tracer) !== Tracer.nativeTracer
  const span = isTraced ? Context.getOrUndefined(options.fiber.context, Tracer.ParentSpan) : undefined
  return {
    timestamp,
    level: level.toLowerCase(),
    message: words,
    fields: { ...annotations, ...details, ...(span !== undefined && { trace: span.traceId, span: span.spanId }) },
    cause
  }
})

/** One object. `timestamp`, `level`, `message` and `cause` are always these. */
export const json = ({ cause, fields, level, message, timestamp }: Entry): string =>
  JSON.stringify({ timestamp, level, message, ...fields, ...(cause !== undefined && { cause }) })

/** What a value of logfmt may be without quotes. */
const isPlain = /^[^\s"=\\\p{Cc}]+$/u

const textOf = (value: unknown): string => {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "")
  // JSON leaves control characters above U+007F as they are.
  return isPlain.test(text) ? text : JSON.stringify(text).replace(/[\u007f-\u009f\u2028\u2029]/g, escaped)
}
const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`

/** `name=value name=value`; what is in an object has its name and a dot before its own. */
const pairs = (fields: Readonly<Record<string, unknown>>, prefix = ""): string =>
  Object.entries(fields)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([name, value]) =>
      isFields(value) ? pairs(value, `${prefix}${name}.`) : `${prefix}${name.replace(/[\s"=]/g, "_")}=${textOf(value)}`
    )
    .filter((pair) => pair !== "")
    .join(" ")

/** As in Heroku's and Grafana's logs. */
export const logfmt = ({ cause, fields, level, message, timestamp }: Entry): string =>
  pairs({ timestamp, level, message, ...fields, cause })

/** What would move a terminal's cursor, or more. A line may end. */
const unprintable = /[^\P{Cc}\n]/gu

const colours: Readonly<Record<string, number>> = { debug: 34, info: 32, warn: 33, error: 31, fatal: 31 }

/** For a person; `isColoured` where a terminal shows it. */
export const pretty =
  (isColoured: boolean) =>
  ({ cause, fields, level, message, timestamp }: Entry): string => {
    const paint = (code: number, text: string) => (isColoured && text !== "" ? `\u001b[${code}m${text}\u001b[0m` : text)
    const day = timestamp.replace("T", " ").replace("Z", "")
    const { event, ...rest } = fields
    const said = pairs(event === undefined ? rest : { event, ...rest })
    const words = message.replace(unprintable, escaped).replaceAll("\n", "\n    ")
    const line = [
      paint(2, day),
      paint(colours[level] ?? 0, level.toUpperCase().padEnd(5)),
      words,
      said === "" ? "" : ` ${paint(2, said)}`
    ]
    const why = cause === undefined ? "" : `\n${cause.replace(/^/gm, "    ")}`
    return line.filter((part) => part !== "").join(" ") + why
  }
