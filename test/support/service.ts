/**
 * The program `holdfast` from outside: as a child process, over HTTP, against databases of the shared server.
 *
 * A program lives as long as the scope it was started in: at its end it gets SIGTERM and, if it does not go, SIGKILL. It
 * sees the variables that a test gives it and of the test's own nothing but `PATH`, `HOME` and `NODE_EXTRA_CA_CERTS`; its working directory is
 * a new one, so that nothing is left in the checkout.
 */
import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { promises as Fs } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { pathToFileURL } from "node:url"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { eventually } from "./conditions.ts"
import * as Client from "./browser.ts"
import { freshDatabase, superuserUrl, urlOf } from "./postgres.ts"
import * as SessionCalls from "./sessionCalls.ts"

export type Environment = Readonly<Record<string, string | undefined>>

/** What to start, and where. A variable that is `undefined` is not set. */
export interface Command {
  readonly args: ReadonlyArray<string>
  readonly env?: Environment | undefined
  /** Default: a new directory, gone afterwards. */
  readonly cwd?: string | undefined
  /** All of standard input. Default: nothing. */
  readonly input?: string | Uint8Array | undefined
  /** The descriptor of a listening socket, which becomes descriptor 3 in the way of sd_listen_fds(3). Default: none. */
  readonly handsOver?: number | undefined
  /** The program's file. Default: that of this checkout. */
  readonly program?: string | undefined
}

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** A program that was started. */
export interface Program {
  readonly pid: number
  /** What it wrote so far. */
  readonly stdout: () => string
  readonly stderr: () => string
  /** The lines of standard output so far. */
  readonly lines: () => ReadonlyArray<string>
  /** What the lines of its log say in words, where they are logfmt. */
  readonly messages: () => ReadonlyArray<string>
  readonly signal: (name: NodeJS.Signals) => Effect.Effect<void>
  /** Nobody reads what it writes from now on, as after `| head`. */
  readonly closeOutput: Effect.Effect<void>
  /** Waits for its end. */
  readonly exited: Effect.Effect<Ended>
}

const own = Path.join(import.meta.dirname, "../../src/bin.ts")
const endWithParent = pathToFileURL(Path.join(import.meta.dirname, "endWithParent.ts")).href

/** A new directory that anybody may go through, as a checkout is. */
export const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(async () => {
    const directory = await Fs.realpath(await Fs.mkdtemp(Path.join(tmpdir(), "holdfast-service-")))
    await Fs.chmod(directory, 0o755)
    return directory
  }),
  (directory) => Effect.promise(() => Fs.rm(directory, { recursive: true, force: true }))
)

const environment = (env: Environment = {}) => {
  const { HOME, NODE_COMPILE_CACHE, NODE_EXTRA_CA_CERTS, PATH } = process.env
  const all = { PATH, HOME, NODE_COMPILE_CACHE, NODE_EXTRA_CA_CERTS, ...env }
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))
}

const collect = (stream: NodeJS.ReadableStream | null) => {
  let text = ""
  stream?.setEncoding("utf8").on("data", (chunk: string) => (text += chunk))
  return () => text
}

const launched = (child: ChildProcess): Program => {
  const stdout = collect(child.stdout)
  const lines = () => stdout().split("\n").slice(0, -1)
  // Only the end of the pipes says that all of the output is there.
  const gone = once(child, "close").then(([code, signal]): Ended => ({ code, signal }))
  return {
    pid: child.pid ?? 0,
    stdout,
    stderr: collect(child.stderr),
    lines,
    messages: () =>
      lines().flatMap((line) => {
        const [, quoted, plain = ""] = /^timestamp=\S+ level=\w+ message=(?:("(?:[^"\\]|\\.)*")|(\S+))/.exec(line) ?? []
        return quoted === undefined ? (plain === "" ? [] : [plain]) : [String(JSON.parse(quoted))]
      }),
    signal: (name) => Effect.sync(() => void child.kill(name)),
    closeOutput: Effect.sync(() => {
      child.stdout?.destroy()
      child.stderr?.destroy()
    }),
    exited: Effect.promise(() => gone)
  }
}

const spawned = ({ args, cwd, env, handsOver, program = own }: Command) => {
  const options = { cwd, env: environment(env) }
  const node = [process.execPath, "--import", endWithParent, program, ...args] as const
  if (handsOver === undefined) return spawn(node[0], node.slice(1), options)
  // Only the process itself knows its id before it is the program.
  const command = 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"'
  const stdio = ["pipe", "pipe", "pipe", handsOver] as const
  const shell = spawn("sh", ["-c", command, ...node], { ...options, stdio: [...stdio] })
  return shell as ChildProcessWithoutNullStreams
}

/** Starts `holdfast …` for the current scope. */
export const launch = Effect.fnUntraced(function* (command: Command) {
  const { cwd, input } = command
  const directory = cwd ?? (yield* temporaryDirectory)
  return yield* Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawned({ ...command, cwd: directory })
      child.stdin.on("error", () => undefined).end(input ?? "")
      return launched(child)
    }),
    ({ exited, signal }) =>
      signal("SIGTERM").pipe(
        Effect.andThen(exited),
        Effect.timeoutOrElse({ duration: "10 seconds", orElse: () => Effect.andThen(signal("SIGKILL"), exited) })
      )
  )
})

/** Runs `holdfast …` to its end, which must come within 15 seconds, and says what it wrote. */
export const run = (command: Command) =>
  Effect.gen(function* () {
    const { exited, stderr, stdout } = yield* launch(command)
    const { code } = yield* Effect.timeout(exited, "15 seconds")
    return { code, stdout: stdout(), stderr: stderr() }
  }).pipe(Effect.scoped)

/** The URL that a service says it listens on, within 30 seconds; dies with what it wrote when it ends before. */
export const listening = (service: Program) =>
  // With a log in JSON the first lines go to standard error.
  Effect.sync(() =>
    [...service.lines(), ...service.stderr().split("\n")].find((line) => line.startsWith(listens))
  ).pipe(
    Effect.repeat({ until: (line) => line !== undefined, schedule: Schedule.spaced("5 millis") }),
    Effect.timeout("30 seconds"),
    Effect.map((line = "") => line.slice(listens.length)),
    Effect.raceFirst(
      Effect.flatMap(service.exited, ({ code, signal }) =>
        Effect.die(new Error(`The service ended with ${code ?? signal}:\n${service.stdout()}${service.stderr()}`))
      )
    ),
    Effect.orDie
  )

const listens = "Holdfast listening on "

/** A database for users' SQL with an ordinary role that owns it. Both are gone afterwards. */
export const queryDatabase = Effect.gen(function* () {
  const connection = yield* PgConnection.make({ url: yield* superuserUrl })
  const role = `user_${randomBytes(8).toString("hex")}`
  const password = randomBytes(12).toString("hex")
  yield* Effect.acquireRelease(connection.query(`CREATE ROLE ${role} LOGIN PASSWORD '${password}'`), () =>
    Effect.orDie(connection.query(`DROP ROLE ${role}`))
  )
  const { name } = yield* freshDatabase
  yield* connection.query(`ALTER DATABASE ${name} OWNER TO ${role}`)
  const url = new URL(Redacted.value(urlOf(name)))
  url.username = role
  url.password = password
  return { name, role, url: Redacted.make(url.href) }
})

/** Two new databases for a service, and the variables that lead it there. Both are gone at the end of the scope. */
export const freshDatabases = Effect.gen(function* () {
  const own = yield* freshDatabase
  const queries = yield* queryDatabase
  const env: Environment = {
    DATABASE_URL: Redacted.value(own.url),
    HOLDFAST_QUERY_URL: Redacted.value(queries.url),
    HOLDFAST_DEMO_PASSWORD: demoPassword
  }
  return { own, queries, env }
})

/** A running service with databases of its own. */
export interface Service extends Program {
  readonly url: string
  /** The database of Holdfast's own tables. */
  readonly own: { readonly name: string; readonly url: Redacted.Redacted }
  /** The database of users' SQL, and its role. */
  readonly queries: { readonly name: string; readonly role: string; readonly url: Redacted.Redacted }
  /** What the service was started with; for commands beside it. */
  readonly env: Environment
  /** For the sessions' store, time goes on. */
  readonly travel: (by: Duration.Input) => Effect.Effect<void, unknown>
  /** A new browser, without a cookie. */
  readonly browser: () => Client.Browser
  /** A new browser that logged in. Default: the user `demo`. */
  readonly login: (username?: string, password?: string) => Effect.Effect<Client.Browser>
}

/** The password of the user `demo`. */
export const demoPassword = "correct horse battery staple"

/** Starts `holdfast serve` on a free port and two databases (default: new ones), and waits until it is ready. */
export const startService = Effect.fnUntraced(function* (
  options: {
    readonly env?: Environment | undefined
    readonly cwd?: string | undefined
    readonly databases?: Effect.Success<typeof freshDatabases> | undefined
  } = {}
): Effect.fn.Return<Service, SqlError, Scope.Scope> {
  const databases = options.databases ?? (yield* freshDatabases)
  const { own, queries } = databases
  const env = { PORT: "0", ...databases.env, ...options.env }
  const running = yield* launch({ args: ["serve"], env, cwd: options.cwd })
  const url = yield* listening(running)
  const browser = () => Client.make(url)
  yield* ready(url)
  return {
    ...running,
    url,
    own,
    queries,
    env,
    travel: (by) => SessionCalls.travel(own.name, by),
    browser,
    login: (username = "demo", password = demoPassword) => Client.login(browser(), { username, password })
  }
})

/** Makes a user who is no operator and has the password of `demo`, at once: the program that does it takes seconds. */
export const addUser = ({ own }: Service, name: string) =>
  Effect.gen(function* () {
    const connection = yield* PgConnection.make({ url: own.url })
    yield* connection.query(
      "insert into holdfast.users (name, password_hash, operator) select $1, password_hash, false from holdfast.users where name = 'demo'",
      [name]
    )
  }).pipe(Effect.scoped)

/** Makes a user an operator, or no longer one, and leaves password and sessions alone. */
export const setOperator = ({ own }: Service, name: string, operator: boolean) =>
  Effect.gen(function* () {
    const connection = yield* PgConnection.make({ url: own.url })
    yield* connection.query("update holdfast.users set operator = $2 where name = $1", [name, operator])
  }).pipe(Effect.scoped)

/** Waits until the service at a URL says that it is ready. */
export const ready = (url: string) =>
  Effect.orDie(eventually(Client.make(url).send("GET", "/health/ready"), ({ status }) => status === 200))

/** A service that the tests of a file share. */
export class Shared extends Context.Service<Shared, Service>()("test/Service") {}

/** A browser in which the user `demo` is logged in to the {@link Shared} service. */
export class Demo extends Context.Service<Demo, Client.Browser>()("test/Demo") {}

/** So many that no login of a test ends the session of another test. */
export const manySessions: Environment = { HOLDFAST_MAX_SESSIONS: "1000" }

/** For `layer(…)` of `@effect/vitest`: started before the first test of the block, ended after the last. */
export const layerShared = (env?: Environment) =>
  Layer.effect(
    Demo,
    Effect.flatMap(Shared, ({ login }) => login())
  ).pipe(Layer.provideMerge(Layer.effect(Shared, startService({ env: { ...manySessions, ...env } }))))

/** A statement of the server's superuser. */
export const administer = (sql: string) =>
  Effect.scoped(
    Effect.flatMap(superuserUrl, (url) => Effect.flatMap(PgConnection.make({ url }), (it) => it.query(sql)))
  )

/** What the server runs in a database now, except for a test's own question. */
export const statements = (database: string) =>
  Effect.gen(function* () {
    const connection = yield* PgConnection.make({ url: yield* superuserUrl })
    const { rows } = yield* connection.query(
      "select query from pg_stat_activity where datname = $1 and state <> 'idle' and backend_type = 'client backend' and pid <> pg_backend_pid()",
      [database]
    )
    return rows.map(({ query }) => String(query))
  }).pipe(Effect.scoped)

/** Waits until so many statements that contain a text run in a database. */
export const runs = (database: string, text: string, count = 1) =>
  eventually(statements(database), (all) => all.filter((query) => query.includes(text)).length === count)
