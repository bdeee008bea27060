/**
 * Commands that ask a running service: `queries`, `functions`, `holdings` and `top`.
 *
 * They act as the user who logs in, and see what that user may see.
 */
import * as Console from "effect/Console"
import * as Prompt from "effect/cli/Prompt"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SecretFiles from "../server/SecretFiles.ts"
import * as Output from "./Output.ts"
import * as ServiceClient from "./ServiceClient.ts"

/** Which service, as whom, and how it is said. */
export interface Options {
  readonly url: string
  readonly user: string
  readonly json: boolean
}

const client = Effect.fnUntraced(function* ({ url, user }: Options) {
  const given = yield* SecretFiles.password
  const password = Option.isSome(given)
    ? given.value
    : process.stdin.isTTY
      ? yield* Prompt.run(Prompt.Hidden({ message: `Password of ${user}` }))
      : yield* new ServiceClient.ServiceRefused({ problem: `HOLDFAST_PASSWORD must hold the password of ${user}` })
  return yield* ServiceClient.login(url.replace(/\/+$/, ""), user, password)
})

const Query = Schema.Struct({
  id: Schema.String,
  state: Schema.String,
  engine: Schema.String,
  sql: Schema.String,
  submittedAt: Schema.String,
  startedAt: Schema.NullOr(Schema.String),
  endedAt: Schema.NullOr(Schema.String),
  rowCount: Schema.NullOr(Schema.Finite),
  error: Schema.NullOr(Schema.Struct({ code: Schema.String, message: Schema.String }))
})

const rowOf = ({ endedAt, engine, error, id, rowCount, sql, state, submittedAt }: typeof Query.Type) => ({
  id,
  state,
  engine,
  submittedAt,
  endedAt,
  rows: rowCount,
  error: error?.code ?? null,
  sql
})

const usual = "default"

/** The same for a person: how long ago it was submitted, and how long it ran or has run. */
const shownOf = (now: number) => (query: typeof Query.Type) => {
  const { endedAt, engine, error, id, rowCount, sql, startedAt, state, submittedAt } = query
  return {
    id,
    state,
    engine: engine === usual ? "" : engine,
    age: Output.span(now - Date.parse(submittedAt)),
    took: startedAt === null ? "" : Output.span((endedAt === null ? now : Date.parse(endedAt)) - Date.parse(startedAt)),
    rows: rowCount,
    error: error?.code,
    sql
  }
}

/** The latest of the user's. */
export const queries = (options: Options) =>
  Effect.gen(function* () {
    const found = yield* (yield* client(options)).get("/queries?limit=100", Schema.Array(Query))
    const shown = found.map(shownOf(Date.now()))
    yield* Output.rows(found.map(rowOf), { json: options.json, none: "There are no queries.", shown })
  }).pipe(Effect.scoped)

export const query = (id: string, options: Options) =>
  Effect.gen(function* () {
    const found = yield* (yield* client(options)).get(`/queries/${encodeURIComponent(id)}`, Query)
    yield* Output.one(found, options)
  }).pipe(Effect.scoped)

/** Cancels, and returns when the connection is back. */
export const cancel = (id: string, options: Options) =>
  Effect.gen(function* () {
    yield* (yield* client(options)).send("DELETE", `/queries/${encodeURIComponent(id)}`)
    yield* Console.log(`query ${id} is over`)
  }).pipe(Effect.scoped)

const Function = Schema.Struct({
  id: Schema.String,
  language: Schema.String,
  title: Schema.NullOr(Schema.String),
  createdAt: Schema.String,
  expiresAt: Schema.String
})

export const functions = (options: Options) =>
  Effect.gen(function* () {
    const found = yield* (yield* client(options)).get("/functions", Schema.Array(Function))
    const now = Date.now()
    const shown = found.map(({ createdAt, expiresAt, id, language, title }) => ({
      id,
      language,
      age: Output.span(now - Date.parse(createdAt)),
      endsIn: Output.span(Date.parse(expiresAt) - now),
      title
    }))
    yield* Output.rows(found, { json: options.json, none: "There are no functions.", shown })
  }).pipe(Effect.scoped)

interface Holding {
  readonly kind: string
  readonly id: string
  readonly since: string
  readonly state: string
  readonly site: string | null
  readonly attributes: Readonly<Record<string, string | number | boolean>>
  readonly holdings: ReadonlyArray<Holding>
}
const Holding = Schema.Struct({
  kind: Schema.String,
  id: Schema.String,
  since: Schema.String,
  state: Schema.String,
  site: Schema.NullOr(Schema.String),
  attributes: Schema.Record(Schema.String, Schema.Union([Schema.String, Schema.Finite, Schema.Boolean])),
  holdings: Schema.Array(Schema.suspend((): Schema.Codec<Holding> => Holding))
})
const Holdings = Schema.Struct({ total: Schema.Finite, omitted: Schema.Finite, holdings: Schema.Array(Holding) })

const linesOf = (holdings: ReadonlyArray<Holding>, depth = 0): ReadonlyArray<Output.Row> =>
  holdings.flatMap((each) => [
    {
      held: `${Output.indent(depth)}${each.kind} ${each.id}`,
      age: Output.span(Date.now() - Date.parse(each.since)),
      state: each.state === "held" ? "" : each.state,
      about: Object.entries(each.attributes)
        .map(([name, value]) => `${name}=${value}`)
        .join(" ")
    },
    ...linesOf(each.holdings, depth + 1)
  ])

/** What the service holds, for operators. */
export const holdings = (options: Options) =>
  Effect.gen(function* () {
    const found = yield* (yield* client(options)).get("/holdings", Holdings)
    if (options.json || !process.stdout.isTTY) return yield* Output.one(found, { json: true })
    yield* Output.rows(linesOf(found.holdings), { json: false, none: "Nothing is held." })
    if (found.omitted > 0) yield* Console.log(`${found.omitted} more are not shown.`)
  }).pipe(Effect.scoped)

const clear = "\u001b[H\u001b[2J"

const screen = ({ holdings, total }: typeof Holdings.Type, url: string): string => {
  const height = (process.stdout.rows ?? 24) - 3
  const lines = linesOf(holdings)
  const shown = lines.slice(0, Math.max(height - 2, 1))
  const more = lines.length - shown.length
  const head = `${url}  ${total} held  ${new Date().toISOString()}  (Ctrl-C ends)`
  const rest = more > 0 ? `\n… and ${more} more` : ""
  return `${clear}${head}\n\n${shown.length === 0 ? "Nothing is held." : Output.table(shown, Output.widthOf(process.stdout))}${rest}`
}

/** The tree of what is held, drawn again every second until it is interrupted; once where there is no terminal. */
export const top = (options: Options) =>
  Effect.gen(function* () {
    const service = yield* client(options)
    const look = Effect.flatMap(service.get("/holdings", Holdings), (found) =>
      process.stdout.isTTY && !options.json
        ? Console.log(screen(found, options.url))
        : Output.one(found, { json: true })
    )
    if (!process.stdout.isTTY || options.json) return yield* look
    yield* Effect.repeat(look, Schedule.spaced("1 second"))
  }).pipe(Effect.scoped)
