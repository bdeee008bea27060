/**
 * The embedded database of `holdfast serve`: a real PostgreSQL with its data beside the checkout.
 *
 * The server lives as long as the scope that {@link make} ran in; the data and its passwords outlive it and are found
 * again at the next start. One program serves from a directory at a time: a second gets `AlreadyServed`, while {@link
 * join} uses the server of the first. A server that a dead program left behind is ended and replaced.
 *
 * **Details**
 *
 * The data is under `.holdfast/` in the working directory. PostgreSQL refuses to run as root; when we are root and the
 * user it runs as instead cannot go there, it is in a directory under `/var/lib/holdfast` that is fixed for this
 * checkout. {@link EmbeddedPostgres} says which it is.
 *
 * ```
 * .holdfast/
 *   data/            the server's own, its user's alone
 *   data.log         what the server said, a mebibyte of it and one before; nothing of users' SQL, no password
 *   secrets.json     passwords, mode 600
 *   program-….json   who serves from here now
 * ```
 */
import { createHash } from "node:crypto"
import { promises as Fs } from "node:fs"
import * as Path from "node:path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as EmbeddedClaim from "./EmbeddedClaim.ts"
import type { EmbeddedPostgresError } from "./EmbeddedPostgresError.ts"
import * as EmbeddedRoles from "./EmbeddedRoles.ts"
import * as EmbeddedSecrets from "./EmbeddedSecrets.ts"
import * as PostgresBinaries from "./PostgresBinaries.ts"
import * as PostgresProcess from "./PostgresProcess.ts"
import * as Postmaster from "./Postmaster.ts"

export { EmbeddedPostgresError } from "./EmbeddedPostgresError.ts"

/** Everything that can go wrong here: with the directory, or with the server's process. */
export type Failure = EmbeddedPostgresError | PostgresProcess.PostgresProcessError

/** Where the data is and how the server runs. */
export interface Options {
  /** The directory of the checkout, usually `process.cwd()`. */
  readonly cwd: string
  /** Where data goes that the server's user cannot reach under `cwd`. Default: `/var/lib/holdfast`. */
  readonly sharedDirectory?: string | undefined
  /** More server parameters, as in `postgresql.conf`. */
  readonly settings?: Readonly<Record<string, string>> | undefined
}

/** The running server and the two ways in. */
export class EmbeddedPostgres extends Context.Service<
  EmbeddedPostgres,
  {
    /** Where data, log and passwords are. */
    readonly directory: string
    readonly host: string
    readonly port: number
    /** True when the data was made at this start. */
    readonly firstStart: boolean
    /** True when the server is another program's. */
    readonly joined: boolean
    /** For Holdfast's own tables: database and role `holdfast`, no superuser. */
    readonly ownerUrl: Redacted.Redacted
    /** For users' SQL: database and role `workspace`, which may connect to no other. */
    readonly workspaceUrl: Redacted.Redacted
    /** For a role of each user's own in the workspace: the role `steward`, which may make roles there. Runs no SQL of users'. */
    readonly stewardUrl: Redacted.Redacted
    /** Puts back what users' SQL has changed about the role `workspace`: its password and its settings. */
    readonly repair: Effect.Effect<void, Failure>
    /** What every connection of that role is to be opened with, so that its own settings change nothing: all of the server's. */
    readonly settings: Effect.Effect<Readonly<Record<string, string>>, Failure>
    readonly secrets: {
      /** The password of the service's user `demo`: random, made when first asked for, kept with the data. */
      readonly demoPassword: Effect.Effect<Redacted.Redacted, Failure>
    }
    /** Waits until the server is gone, by whatever; for ever when it is another program's. */
    readonly exited: Effect.Effect<void>
  }
>()("holdfast/embedded/EmbeddedPostgres") {}

const host = "127.0.0.1"

/** Users' SQL makes mistakes all day: they are for the user, not for a file that only grows. */
const quiet = { log_min_messages: "log", log_min_error_statement: "panic", log_checkpoints: "off" }

/**
 * A commit waits until all of the log before it is on the disk, also what others wrote: what users' SQL writes goes there at once
 * and in small pieces, and what nobody needs is left out. PostgreSQL, "Write Ahead Log".
 */
const steady = {
  // Nothing is replicated from here: a table that is filled in the transaction that made it needs no log.
  wal_level: "minimal",
  max_wal_senders: "0",
  wal_writer_delay: "20ms",
  wal_writer_flush_after: "256kB",
  backend_flush_after: "512kB"
}

const service = (
  directory: string,
  secrets: EmbeddedSecrets.Secrets,
  rest: Pick<EmbeddedPostgres["Service"], "port" | "firstStart" | "joined" | "exited">
) => {
  const address = { host, port: rest.port }
  return EmbeddedPostgres.of({
    ...rest,
    directory,
    host,
    ownerUrl: EmbeddedRoles.urlOf(address, EmbeddedRoles.owner, secrets.owner),
    workspaceUrl: EmbeddedRoles.urlOf(address, EmbeddedRoles.workspace, secrets.workspace),
    stewardUrl: EmbeddedRoles.urlOf(
      address,
      EmbeddedRoles.steward,
      EmbeddedRoles.stewardPassword(secrets),
      EmbeddedRoles.workspace
    ),
    // Two at a time would disturb each other.
    repair: Semaphore.makeUnsafe(1).withPermit(EmbeddedRoles.repair(address, secrets, directory)),
    settings: EmbeddedRoles.settings(address, secrets, directory),
    secrets: { demoPassword: EmbeddedSecrets.demoPassword(directory) }
  })
}

/** Starts the server of this checkout and owns it until the scope closes. A start that fails leaves nothing behind. */
export const make = Effect.fn("EmbeddedPostgres.make")(function* (
  options: Options
): Effect.fn.Return<EmbeddedPostgres["Service"], Failure, Scope.Scope> {
  const directory = yield* directoryFor(options)
  const own = yield* Scope.fork(yield* Effect.scope)
  return yield* serve(directory, options).pipe(
    Scope.provide(own),
    Effect.onExit((exit) => (Exit.isFailure(exit) ? Scope.close(own, exit) : Effect.void))
  )
})

const serve = Effect.fnUntraced(function* (directory: string, options: Options) {
  yield* makeDirectory(directory)
  const claim = yield* EmbeddedClaim.take(directory)
  const data = Path.join(directory, "data")
  const secrets = (yield* exists(data))
    ? yield* EmbeddedSecrets.load(directory)
    : yield* EmbeddedSecrets.loadOrMake(directory)
  yield* Postmaster.stopOrphan(data)
  const firstStart = yield* PostgresProcess.initialize({
    directory: data,
    superuser: EmbeddedRoles.superuser,
    password: secrets.superuser
  })
  const server = yield* PostgresProcess.start({
    directory: data,
    settings: { ...quiet, ...steady, ...options.settings }
  })
  yield* EmbeddedRoles.setUp(server, secrets, directory)
  yield* claim.announce(server.port)
  return service(directory, secrets, { port: server.port, firstStart, joined: false, exited: server.exited })
})

/** {@link make} as a layer. */
export const layer = (options: Options): Layer.Layer<EmbeddedPostgres, Failure> =>
  Layer.effect(EmbeddedPostgres, make(options))

/**
 * Uses the server of the program that serves from this checkout, or starts one for the current scope when none does.
 *
 * **When to use**
 *
 * For a command that runs beside the service, such as `holdfast user add`.
 */
export const join = Effect.fn("EmbeddedPostgres.join")(function* (
  options: Options
): Effect.fn.Return<EmbeddedPostgres["Service"], Failure, Scope.Scope> {
  const directory = yield* directoryFor(options)
  const attempt = Effect.gen(function* () {
    const holder = yield* EmbeddedClaim.holder(directory)
    if (holder === undefined) return yield* make(options)
    if (holder.port === undefined) return undefined
    const secrets = yield* EmbeddedSecrets.load(directory)
    return service(directory, secrets, { port: holder.port, firstStart: false, joined: true, exited: Effect.never })
  }).pipe(
    // Somebody else was faster between the look and the claim: then he is the one to join.
    Effect.catchReason("EmbeddedPostgresError", "AlreadyServed", () => Effect.succeed(undefined))
  )
  return yield* Effect.flatMap(attempt, (found) =>
    found === undefined ? Effect.fail("starting" as const) : Effect.succeed(found)
  ).pipe(
    Effect.retry({ while: (error) => error === "starting", schedule: Schedule.spaced("50 millis"), times: 1200 }),
    Effect.catchIf(
      (error) => error === "starting",
      () => make(options)
    ),
    Postmaster.inRealTime
  )
})

const exists = (path: string) =>
  Effect.promise(() =>
    Fs.access(path).then(
      () => true,
      () => false
    )
  )

/** Where the data of a checkout is or will be: where there is some already, else as near as the server may go. */
const directoryFor = Effect.fnUntraced(function* (options: Options) {
  const cwd = yield* PostgresBinaries.onFiles(options.cwd, () => Fs.realpath(options.cwd))
  const near = Path.join(cwd, ".holdfast")
  const user = yield* PostgresBinaries.userFor(Path.join(near, "data"))
  if (user === undefined) return near
  const name = createHash("sha256").update(cwd).digest("hex").slice(0, 12)
  const shared = Path.join(options.sharedDirectory ?? PostgresBinaries.sharedDirectory, name)
  if (yield* exists(Path.join(near, "data"))) {
    return (yield* PostgresBinaries.canReach(near, user)) ? near : shared
  }
  if (yield* exists(Path.join(shared, "data"))) return shared
  return (yield* PostgresBinaries.canOwnWithin((yield* exists(near)) ? near : cwd, user)) ? near : shared
})

/** The server's user goes through what is made here but cannot look into it. */
const makeDirectory = (directory: string) =>
  PostgresBinaries.onFiles(directory, async () => {
    const first = await Fs.mkdir(directory, { recursive: true })
    if (first === undefined) return
    for (let path = directory; path.length >= first.length; path = Path.dirname(path)) {
      await Fs.chmod(path, process.getuid?.() === 0 ? 0o711 : 0o700)
    }
  })
