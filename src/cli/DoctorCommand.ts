/**
 * `holdfast doctor`: looks at everything that the service needs, and says of each thing in one line whether it will do, or why not.
 *
 * It changes nothing. The exit code is 1 where something will not do; a warning alone leaves it at 0.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { accessSync, constants, statfsSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Outages from "../lifetime/internal/Outages.ts"
import * as PgDirect from "../postgres/internal/PgDirect.ts"
import * as PgTarget from "../postgres/internal/PgTarget.ts"
import * as ClearText from "../server/ClearText.ts"
import * as Databases from "../server/Databases.ts"
import * as Engines from "../server/Engines.ts"
import * as ListenerPort from "../server/ListenerPort.ts"
import { manifest } from "../server/Manifest.ts"
import * as Migrations from "../server/Migrations.ts"
import * as QueryRole from "../server/QueryRole.ts"
import * as SessionStores from "../server/SessionStores.ts"
import * as Settings from "../server/Settings.ts"
import { SessionStore } from "../session/SessionStore.ts"
import * as Output from "./Output.ts"

/** What was looked at, and what was found. */
interface Finding {
  readonly verdict: "ok" | "warning" | "failed"
  readonly what: string
  readonly found: string
}

const ok = (what: string, found: string): Finding => ({ verdict: "ok", what, found })
const warning = (what: string, found: string): Finding => ({ verdict: "warning", what, found })
const failed = (what: string, found: string): Finding => ({ verdict: "failed", what, found })

/** Something will not do. What it is was said. */
export class Unfit extends Schema.TaggedError<Unfit>("holdfast/cli/DoctorCommand/Unfit")("Unfit", {
  failed: Schema.Int
}) {
  override get message(): string {
    return `${this.failed} of these will not do.`
  }
}

const oneLine = (text: string) => text.replace(/\s*\n\s*/g, " ").trim()

/** Looks, or says in the words of the server or the system why that is impossible. */
const looked = <E, R>(what: string, look: Effect.Effect<ReadonlyArray<Finding>, E, R>) =>
  Effect.suspend(() => {
    const told: Array<string> = []
    const outages = Outages.makeUnsafe((line, isOver) => Effect.sync(() => void (isOver || told.push(line))))
    const listener = Logger.make(({ logLevel, message }) => {
      if (logLevel === "Warn" || logLevel === "Error") told.push([message].flat().map(String).join(" "))
    })
    return look.pipe(
      Effect.timeout("10 seconds"),
      Effect.catchCause((cause) => {
        const error = cause.reasons.find((reason) => reason._tag !== "Interrupt")
        const thrown = error?._tag === "Fail" ? error.error : error?._tag === "Die" ? error.defect : undefined
        const said = thrown instanceof Error ? thrown.message : String(thrown)
        return Effect.succeed([failed(what, oneLine(told[0] ?? said))])
      }),
      Effect.provideService(Outages.Outages, outages),
      Effect.provide(Logger.layer([listener]))
    )
  })

const Server = Schema.Struct({
  version: Schema.NumberFromString,
  encoding: Schema.String,
  recovering: Schema.Boolean,
  readonly: Schema.String,
  most: Schema.NumberFromString,
  used: Schema.NumberFromString,
  creates: Schema.Boolean,
  now: Schema.NumberFromString
})

/** Names are written out: the role may have put others first on its search path. */
const server = `
  select pg_catalog.current_setting('server_version_num') as version, pg_catalog.current_setting('server_encoding') as encoding,
    pg_catalog.pg_is_in_recovery() as recovering, pg_catalog.current_setting('default_transaction_read_only') as readonly,
    pg_catalog.current_setting('max_connections') as most,
    (select pg_catalog.count(*)::text from pg_catalog.pg_stat_activity where backend_type = 'client backend') as used,
    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
      or exists (select from pg_catalog.pg_namespace n where n.nspname = 'holdfast'
        and pg_catalog.has_schema_privilege(n.oid, 'CREATE')) as creates,
    (extract(epoch from pg_catalog.clock_timestamp()) * 1000)::text as now`

/** Clocks that differ by more confuse people who compare logs; sessions and queries go by the server's alone. */
const mostSkew = 2000

/** What is said of a server of PostgreSQL: `needs` connections, and for its own tables the right to make some. */
const postgres = (what: string, url: Redacted.Redacted<string>, needs: { connections: number; tables: boolean }) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const before = Date.now()
    const [row] = yield* sql.unsafe(server)
    const middle = (before + Date.now()) / 2
    const { creates, encoding, most, now, readonly, recovering, used, version } =
      yield* Schema.decodeUnknownEffect(Server)(row)
    const findings = [ok(what, `PostgreSQL ${Math.floor(version / 10_000)} at ${PgTarget.whereOf(url)}`)]
    if (version < 140_000) findings.push(failed(what, "PostgreSQL is older than 14: upgrade it"))
    if (encoding !== "UTF8") findings.push(warning(what, `The encoding is ${encoding}: make the database with UTF8`))
    if (recovering) findings.push(failed(what, "The server is a standby, which takes no writes: name the primary"))
    else if (readonly === "on" && needs.tables) {
      findings.push(
        failed(what, "default_transaction_read_only is on: nothing can be written. Set it to off for the role")
      )
    }
    if (needs.tables && !creates) {
      findings.push(
        failed(what, "The role may not make the tables: grant it CREATE on the database, or on the schema holdfast")
      )
    }
    if (most - used < needs.connections) {
      findings.push(
        warning(
          what,
          `max_connections is ${most}, ${used} are in use, and up to ${needs.connections} are needed: raise it, or lower HOLDFAST_MAX_QUERIES`
        )
      )
    }
    const skew = Math.round(now - middle)
    if (Math.abs(skew) > mostSkew) {
      findings.push(
        warning(what, `The server's clock is ${Math.abs(skew)} ms ${skew > 0 ? "ahead" : "behind"}: run NTP on both`)
      )
    }
    return findings
  }).pipe(Effect.provide(PgDirect.layer(what, { url, maxConnections: 1 })))

const gibibyte = 1024 ** 3

/** Where rows of queries go when they are many. */
const results = Effect.try({
  try: () => {
    const directory = tmpdir()
    accessSync(directory, constants.W_OK | constants.X_OK)
    const { bavail, bsize } = statfsSync(directory)
    const free = bavail * bsize
    const text = `${(free / gibibyte).toFixed(1)} GiB free in ${directory}`
    return [
      free < gibibyte
        ? warning("results", `${text}: rows of queries may need 8 GiB. Set TMPDIR to a larger disk`)
        : ok("results", text)
    ]
  },
  catch: (cause) =>
    new Error(
      `Rows cannot be kept in ${tmpdir()}: ${cause instanceof Error ? cause.message : String(cause)}. Set TMPDIR`
    )
})

const port = ({ host, port }: Settings.Settings) =>
  Effect.match(ListenerPort.check(host, port), {
    onSuccess: () => [ok("port", `${port} on ${host} is free`)],
    onFailure: (error) => [
      "code" in error && error.code === "EADDRINUSE"
        ? warning("port", `${port} on ${host} is in use: by the running service, or set another PORT`)
        : failed("port", `${port} on ${host} cannot be had: ${error.message}. Set PORT or HOST`)
    ]
  })

/** Of Redis: who lets us in, and whether it will do. */
const redis = (settings: Settings.Settings, databases: Databases.Databases) =>
  Effect.gen(function* () {
    const before = Date.now()
    const now = yield* (yield* SessionStore).ping
    const skew = Math.round(now.epochMilliseconds - (before + Date.now()) / 2)
    return Math.abs(skew) > mostSkew
      ? [warning("sessions", `The clock of Redis differs by ${Math.abs(skew)} ms: run NTP on both`)]
      : [ok("sessions", "Redis answers")]
  }).pipe(Effect.provide(SessionStores.layer(settings, databases)))

const engines = (settings: Settings.Settings) =>
  Effect.forEach(settings.engines, ({ name, ...rest }) =>
    looked(
      `engine ${name}`,
      Effect.gen(function* () {
        const engine = (yield* Engines.Engines).get(name)
        return engine !== undefined && (yield* engine.isReady)
          ? [ok(`engine ${name}`, "Queries can run")]
          : yield* Effect.fail(new Error("No query can run on it"))
      }).pipe(Effect.provide(Engines.layer({ ...settings, engines: [{ name, ...rest }] })))
    )
  )

/** As many as an instance opens to the database of its own tables: for users, sessions, the journal of queries with rows, functions. */
const ownConnections = ({ functions, redisUrl, sharedQueries }: Settings.Settings) =>
  2 + (Option.isNone(redisUrl) ? 11 : 0) + (sharedQueries ? 11 : 0) + (functions === "off" ? 0 : 4)

/** All that is found, in the order in which it is looked for. */
const examine = Effect.gen(function* () {
  const versions = ok("versions", `Holdfast ${manifest.version}, Node ${process.versions.node}, ${process.platform}`)
  const loaded = yield* Effect.result(Settings.load)
  if (loaded._tag === "Failure") return [versions, failed("configuration", oneLine(loaded.failure.message))]
  const settings = loaded.success
  const clear = ClearText.found(settings).map(({ remedy, variable }) =>
    warning("configuration", `${variable} leads beyond this machine without TLS: give it ${remedy}`)
  )
  const first = [versions, clear.length === 0 ? ok("configuration", "It makes sense") : clear].flat()
  const joined = yield* Effect.result(
    Effect.mapError(Databases.join(settings), (error) => (error instanceof Error ? error.message : String(error)))
  )
  if (joined._tag === "Failure") return [...first, failed("embedded database", oneLine(joined.failure))]
  const databases = joined.success
  const tables = yield* looked(
    "tables",
    postgres("tables", databases.own, { connections: ownConnections(settings), tables: true })
  )
  const isThere = tables.every(({ verdict }) => verdict !== "failed")
  const migrations = isThere
    ? yield* looked(
        "migrations",
        Effect.map(
          Effect.forEach(Migrations.all(settings, databases), ({ of, pending }) =>
            Effect.map(pending, (steps) => steps.map((step) => `${of}: ${step}`))
          ),
          (steps) =>
            steps.flat().length === 0
              ? [ok("migrations", "The tables are up to date")]
              : [
                  warning(
                    "migrations",
                    `Not applied yet: ${steps.flat().join(", ")}. The service does it when it starts`
                  )
                ]
        )
      )
    : []
  const usual = Option.isNone(databases.queries)
    ? []
    : yield* looked(
        "queries",
        postgres("queries", databases.queries.value, { connections: settings.maxQueries, tables: false })
      )
  const role =
    Option.isNone(databases.queries) || settings.allowsSuperuser || usual.some(({ verdict }) => verdict === "failed")
      ? []
      : yield* looked(
          "queries",
          Effect.as(
            Effect.provide(
              QueryRole.ordinary,
              PgDirect.layer("queries", { url: databases.queries.value, maxConnections: 1 })
            ),
            []
          )
        )
  const sessions = Option.isNone(settings.redisUrl) ? [] : yield* looked("sessions", redis(settings, databases))
  const others = (yield* engines(settings)).flat()
  const rest = [yield* looked("results", results), yield* looked("port", port(settings))].flat()
  return [...first, ...tables, ...migrations, ...usual, ...role, ...sessions, ...others, ...rest]
})

const marks = { ok: "ok", warning: "WARNING", failed: "FAILED" } as const

/** Looks, says what was found, and fails where something will not do. */
export const doctor = (json: boolean) =>
  Effect.gen(function* () {
    const findings = yield* examine
    if (json)
      yield* Output.rows(
        findings.map((finding) => ({ ...finding })),
        { json, none: "" }
      )
    else
      for (const { found, verdict, what } of findings)
        yield* Console.log(`${marks[verdict].padEnd(8)} ${what}: ${found}`)
    const bad = findings.filter(({ verdict }) => verdict === "failed").length
    if (bad > 0) return yield* new Unfit({ failed: bad })
  }).pipe(Effect.scoped)
