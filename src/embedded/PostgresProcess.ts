/**
 * A PostgreSQL server that runs as a child process of ours.
 *
 * A server lives as long as the scope it was started in: {@link start} returns when it accepts connections, and closing
 * the scope asks it to shut down and waits until it is gone, by force where it must. The data directory made by
 * {@link initialize} outlives it. When our own process dies without closing anything, {@link PostgresGuard} ends the server;
 * where there is no guard, the next program that wants the directory ends it with `Postmaster.stopOrphan`.
 *
 * **Details**
 *
 * The server listens on 127.0.0.1 only and on no Unix socket, in a process group of its own, so that Ctrl-C in a
 * terminal reaches us and not it. Its messages go to a file beside the data directory; of those, the last mebibyte is kept and
 * one before it. It runs as another user when we are root, see {@link PostgresBinaries}. Everything here waits in real time, also under a test's clock.
 *
 * **Gotchas**
 *
 * One data directory, one caller at a time: {@link initialize} takes no lock of its own.
 */
import { randomBytes } from "node:crypto"
import { closeSync, openSync, promises as Fs, readFileSync, statSync } from "node:fs"
import * as Path from "node:path"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Ledger from "../lifetime/Ledger.ts"
import { freePort } from "./FreePort.ts"
import * as PostgresBinaries from "./PostgresBinaries.ts"
import {
  AlreadyRunning,
  DirectoryUnusable,
  InitFailed,
  PostgresProcessError,
  StartFailed
} from "./PostgresProcessError.ts"
import * as PostgresGuard from "./PostgresGuard.ts"
import * as Postmaster from "./Postmaster.ts"

export { PostgresProcessError } from "./PostgresProcessError.ts"

/** A running server. */
export interface PostgresProcess {
  readonly directory: string
  readonly host: string
  readonly port: number
  readonly pid: number
  readonly logFile: string
  /** Waits until the server is gone, also where something else ended it. */
  readonly exited: Effect.Effect<void>
  /** Signals the postmaster; nothing happens when it is gone. */
  readonly signal: (name: NodeJS.Signals) => Effect.Effect<void>
}

/**
 * What a new data directory is like. UTF-8 with the built-in locale `C.UTF-8`, whatever the environment says; with `C` where
 * PostgreSQL is older than 17 and has none.
 */
export interface InitializeOptions {
  /** Made when it is absent. Its parent must exist and be reachable for the server's user. */
  readonly directory: string
  readonly superuser: string
  readonly password: Redacted.Redacted
  /** Whether to wait until everything is on the disk. Default: true; false is for data nobody will miss. */
  readonly sync?: boolean | undefined
  /** A directory with `bin`, `lib` and `share` of PostgreSQL. Default: the installed package's. */
  readonly programs?: string | undefined
}

/** How to run a server. */
export interface StartOptions {
  readonly directory: string
  /** Default: a free one. */
  readonly port?: number | undefined
  /** Server parameters, as in `postgresql.conf`. */
  readonly settings?: Readonly<Record<string, string>> | undefined
  /** Default: 60 seconds, because a recovery after a crash takes its time. */
  readonly timeLimit?: Duration.Input | undefined
  /** A directory with `bin`, `lib` and `share` of PostgreSQL. Default: the installed package's. */
  readonly programs?: string | undefined
}

const host = "127.0.0.1"
const failure = (reason: PostgresProcessError["reason"]) => new PostgresProcessError({ reason })

/** Makes a data directory unless it is there; true when it was made now. A crash on the way leaves none. */
export const initialize = Effect.fn("PostgresProcess.initialize")(function* (
  options: InitializeOptions
): Effect.fn.Return<boolean, PostgresProcessError> {
  const { directory } = options
  const found = yield* Effect.promise(() => Fs.readdir(directory).catch((): Array<string> => []))
  if (found.includes("PG_VERSION")) return false
  if (found.length > 0) {
    const problem = "it is not empty and holds no PostgreSQL data. Move it away or choose another"
    return yield* failure(new DirectoryUnusable({ directory, problem }))
  }
  const user = yield* PostgresBinaries.userFor(directory)
  const native = yield* PostgresBinaries.directoryFor(user, options.programs)
  const major = options.programs === undefined ? undefined : yield* PostgresBinaries.majorOf(native)
  const [parent, prefix] = [Path.dirname(directory), `${Path.basename(directory)}.new-`]
  // A new name each time: what a killed program's initdb still does there is not done to this one.
  const staging = Path.join(parent, `${prefix}${randomBytes(6).toString("hex")}`)
  const data = Path.join(staging, "data")
  const passwordFile = Path.join(staging, "password")
  const prepare = PostgresBinaries.onFiles(staging, async () => {
    const left = (await Fs.readdir(parent)).filter((name) => name.startsWith(prefix))
    for (const name of left) await Fs.rm(Path.join(parent, name), { recursive: true, force: true })
    await Fs.mkdir(staging, { mode: 0o700 })
    await Fs.writeFile(passwordFile, Redacted.value(options.password), { mode: 0o600 })
    if (user === undefined) return
    for (const path of [staging, passwordFile]) await Fs.chown(path, user.uid, user.gid)
  })
  const initdb = PostgresBinaries.run(
    Path.join(native, "bin", "initdb"),
    [
      `--pgdata=${data}`,
      `--username=${options.superuser}`,
      `--pwfile=${passwordFile}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      ...(major !== undefined && major < 17 ? [] : ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]),
      "--locale=C",
      "--no-instructions",
      ...(options.sync === false ? ["--no-sync"] : [])
    ],
    user
  )
  return yield* prepare.pipe(
    Effect.andThen(initdb),
    Effect.filterOrFail(
      ({ code }) => code === 0,
      ({ output }) => failure(new InitFailed({ directory, output: output.trim() }))
    ),
    Effect.andThen(PostgresBinaries.onFiles(directory, () => Fs.rename(data, directory))),
    Effect.ensuring(Effect.promise(() => Fs.rm(staging, { recursive: true, force: true }).catch(() => undefined))),
    Effect.as(true)
  )
})

/** Starts a server on an initialised data directory and waits until it accepts connections. */
export const start = Effect.fn("PostgresProcess.start")(function* (
  options: StartOptions
): Effect.fn.Return<PostgresProcess, PostgresProcessError, Scope.Scope> {
  const directory = yield* PostgresBinaries.onFiles(options.directory, () => Fs.realpath(options.directory))
  const user = yield* PostgresBinaries.userFor(directory)
  const native = yield* PostgresBinaries.directoryFor(user, options.programs)
  const other = yield* Postmaster.running(directory)
  if (other !== undefined) return yield* failure(new AlreadyRunning({ directory, pid: other.identity.pid }))
  const command = Path.join(native, "bin", "postgres")
  const acquire = Effect.flatMap(options.port === undefined ? freePort : Effect.succeed(options.port), (port) =>
    launch({ ...options, directory, port, command, user })
  ).pipe(
    // The port may be lost again, and what a killed server left needs a moment to be gone.
    Effect.retry({
      while: ({ reason }) =>
        reason._tag === "StartFailed" && /could not bind|pre-existing shared memory block/.test(reason.log),
      schedule: Schedule.spaced("100 millis"),
      times: 50
    }),
    Postmaster.inRealTime
  )
  const server = yield* Ledger.hold(
    { kind: "postgres", id: directory, releaseLimit: "20 seconds" },
    acquire,
    ({ stop }) => stop
  )
  yield* Effect.promise(() => cut(server.logFile)).pipe(
    Effect.repeat(Schedule.spaced("1 second")),
    Postmaster.inRealTime,
    Effect.forkScoped
  )
  return server
})

/** What a log may grow to, in bytes, before it becomes the old one. */
const maxLog = 1024 * 1024

/** The server has the file open and appends: it is copied and emptied. What is written in between is lost. */
const cut = async (logFile: string) => {
  try {
    const { size } = await Fs.stat(logFile)
    if (size <= maxLog) return
    await Fs.copyFile(logFile, `${logFile}.old`)
    await Fs.truncate(logFile)
  } catch {
    // It is looked at again in a second.
  }
}

interface Launch extends StartOptions {
  readonly port: number
  readonly command: string
  readonly user: PostgresBinaries.ServerUser
}

interface Launched extends PostgresProcess {
  readonly stop: Effect.Effect<void>
}

const launch = ({ command, directory, port, settings, timeLimit, user }: Launch) =>
  Effect.uninterruptibleMask((restore): Effect.Effect<Launched, PostgresProcessError> => {
    const logFile = `${directory}.log`
    const args = ["-D", directory, "-h", host, "-p", String(port)]
    const parameters = { unix_socket_directories: "", logging_collector: "off", ...settings }
    for (const [name, value] of Object.entries(parameters)) args.push("-c", `${name}=${value}`)
    const opened = PostgresBinaries.onFiles(logFile, async () => {
      const size = await Fs.stat(logFile).then(
        (stat) => stat.size,
        () => 0
      )
      if (size > maxLog) await Fs.rename(logFile, `${logFile}.old`)
      return openSync(logFile, "a", 0o600)
    })
    return Effect.flatMap(opened, (log) => {
      const from = statSync(logFile).size
      const child = PostgresGuard.start(command, args, user, log)
      closeSync(log)
      const gone = new Promise<string>((resolve) => {
        child.once("error", (cause) => resolve(`could not be run: ${cause.message}`))
        child.once("exit", (code, signal) => resolve(`ended with ${signal ?? `code ${code}`} before it was ready`))
      })
      const exited = Effect.asVoid(Effect.promise(() => gone))
      const signal = (name: NodeJS.Signals) => Effect.sync(() => void child.kill(name))
      const stop = Postmaster.shutDown(directory, (signal) => child.kill(signal), exited)
      const refuse = (problem: string) => {
        const log = readFileSync(logFile).subarray(from).toString().trim().split("\n").slice(-12).join("\n")
        return Effect.fail(failure(new StartFailed({ directory, problem, logFile, log })))
      }
      const isReady = () => {
        const file = Postmaster.readPidFile(directory)
        return file !== undefined && file.pid === child.pid && file.ready
      }
      const ready = Effect.repeat(Effect.sync(isReady), {
        until: (ready) => ready,
        schedule: Schedule.spaced("10 millis")
      })
      return Effect.raceFirst(
        Effect.as(ready, undefined),
        Effect.flatMap(
          Effect.promise(() => gone),
          refuse
        )
      ).pipe(
        Effect.timeoutOrElse({ duration: timeLimit ?? "60 seconds", orElse: () => refuse("was not ready in time") }),
        restore,
        Effect.onExit((exit) => (Exit.isFailure(exit) ? stop : Effect.void)),
        Effect.map(() => ({ directory, host, port, pid: child.pid ?? 0, logFile, exited, signal, stop }))
      )
    })
  })
