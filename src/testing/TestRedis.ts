/**
 * A real Redis (or Valkey) server for tests, empty and thrown away.
 *
 * The server and its data live in a temporary directory for as long as the scope it was made in; closing the scope ends
 * the server and removes the directory. In between it can be stopped, killed, paused and started again on the same port
 * with the same data, which is how a test takes the store away from a program.
 *
 * **When to use**
 *
 * With {@link make} once per test run or file, with {@link layer} where a test wants a server of its own (some 50
 * milliseconds). What it has answered survives a crash of the server, and not one of the machine.
 *
 * **Details**
 *
 * The program is the one on `PATH`, or the distribution's package, see `RedisBinary`. It listens on 127.0.0.1 only, in a
 * process group of its own. Everything here waits in real time, also under a test's clock.
 *
 * **Gotchas**
 *
 * A test run that is killed by force leaves the server and its directory behind, among the system's temporary files. The
 * next {@link make} of the same user removes them.
 */
import { spawn } from "node:child_process"
import { closeSync, openSync, promises as Fs, readFileSync, statSync } from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Ledger from "../lifetime/Ledger.ts"
import * as ProcessTable from "../node/internal/ProcessTable.ts"
import { freePort } from "../embedded/FreePort.ts"
import * as Postmaster from "../embedded/Postmaster.ts"
import type * as DistributionProgram from "./internal/DistributionProgram.ts"
import * as RedisBinary from "./internal/RedisBinary.ts"
import * as ServerDirectory from "./internal/ServerDirectory.ts"

/** The server could not be had: the message says what to do. */
export class TestRedisError extends Schema.TaggedError<TestRedisError>("holdfast/testing/TestRedisError")(
  "TestRedisError",
  { problem: Schema.String }
) {
  override get message(): string {
    return this.problem
  }
}

/** What a server may be told. */
export interface Options {
  /** More lines of `redis.conf`; the last one of a name counts. */
  readonly config?: ReadonlyArray<string> | undefined
  /** Default: none. It stands in the URL. */
  readonly password?: string | undefined
}

/** A running server of its own. */
export class TestRedis extends Context.Service<
  TestRedis,
  {
    readonly host: string
    readonly port: number
    /** Data, log and everything else of the server; removed at the end. */
    readonly directory: string
    readonly url: Redacted.Redacted
    /** The process that runs now; 0 when it is down. */
    readonly pid: Effect.Effect<number>
    /** Shuts the server down in order, as an operator would. No-op when it is down. */
    readonly stop: Effect.Effect<void>
    /** Kills the server without a word, as a crash would. No-op when it is down. */
    readonly kill: Effect.Effect<void>
    /** Starts it again on the same port, with the data it had. No-op when it runs. */
    readonly start: Effect.Effect<void, TestRedisError>
    /** `stop`, then `start`. */
    readonly restart: Effect.Effect<void, TestRedisError>
    /** The process stands still: connections are accepted by the system and never answered. */
    readonly pause: Effect.Effect<void>
    /** It goes on, with what arrived meanwhile first. */
    readonly resume: Effect.Effect<void>
  }
>()("holdfast/testing/TestRedis") {}

const host = "127.0.0.1"
const prefix = "holdfast-redis-"
const serverFile = "server.json"

const failure = (problem: string) => new TestRedisError({ problem })

/** Makes a server that runs until the scope closes. */
export const make = Effect.fn("TestRedis.make")(function* (
  options: Options = {}
): Effect.fn.Return<TestRedis["Service"], TestRedisError, Scope.Scope> {
  yield* ServerDirectory.sweep(prefix, stopOrphan)
  const binary = yield* Effect.mapError(RedisBinary.find, failure)
  const directory = yield* ServerDirectory.make(prefix, failure)
  const scope = yield* Effect.scope
  const one = yield* Semaphore.make(1)
  const begin = Effect.fnUntraced(function* (port?: number) {
    const own = yield* Scope.fork(scope)
    const server = yield* run(binary, directory, options, port).pipe(
      Scope.provide(own),
      Effect.onExit((exit) => (Exit.isFailure(exit) ? Scope.close(own, exit) : Effect.void))
    )
    return { server, close: Scope.close(own, Exit.void) }
  })
  let current: Effect.Success<ReturnType<typeof begin>> | undefined = yield* begin()
  const { port } = current.server

  const end = (name?: NodeJS.Signals) =>
    Effect.suspend(() => {
      if (current === undefined) return Effect.void
      const { close, server } = current
      current = undefined
      return name === undefined ? close : Effect.andThen(server.signal(name), close)
    }).pipe(Effect.uninterruptible)
  const start = Effect.suspend(() =>
    current === undefined ? Effect.map(begin(port), (began) => void (current = began)) : Effect.void
  )
  const signal = (name: NodeJS.Signals) =>
    one.withPermit(Effect.suspend(() => current?.server.signal(name) ?? Effect.void))
  const secret = options.password === undefined ? "" : `:${encodeURIComponent(options.password)}@`
  return TestRedis.of({
    host,
    port,
    directory,
    url: Redacted.make(`redis://${secret}${host}:${port}`),
    pid: Effect.sync(() => current?.server.pid ?? 0),
    stop: one.withPermit(end()),
    kill: one.withPermit(end("SIGKILL")),
    start: one.withPermit(start),
    restart: one.withPermit(Effect.andThen(end(), start)),
    pause: signal("SIGSTOP"),
    resume: signal("SIGCONT")
  })
})

/** A server of its own for each layer. */
export const layer = (options?: Options): Layer.Layer<TestRedis, TestRedisError> =>
  Layer.effect(TestRedis, make(options))

/** Starts it and waits until it answers; the port may be lost again to somebody else. */
const run = (binary: DistributionProgram.Program, directory: string, options: Options, port: number | undefined) =>
  Ledger.hold(
    { kind: "redis", id: directory, releaseLimit: "20 seconds" },
    Effect.flatMap(port === undefined ? freePort : Effect.succeed(port), (port) =>
      launch(binary, directory, options, port)
    ).pipe(
      Effect.retry({
        while: ({ problem }) => /Address already in use/.test(problem),
        schedule: Schedule.spaced("100 millis"),
        times: 50
      }),
      Postmaster.inRealTime
    ),
    ({ stop }) => stop
  )

const launch = (binary: DistributionProgram.Program, directory: string, options: Options, port: number) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const logFile = Path.join(directory, "redis.log")
      const lines = [
        `bind ${host}`,
        `port ${port}`,
        `dir "${directory}"`,
        // What was answered is with the system, and not yet on the disk: a crash of the server loses nothing.
        "appendonly yes",
        "appendfsync no",
        'save ""',
        ...(options.password === undefined ? [] : [`requirepass "${options.password}"`]),
        ...(options.config ?? [])
      ]
      const configuration = Path.join(directory, "redis.conf")
      const log = yield* Effect.tryPromise({
        try: async () => {
          await Fs.writeFile(configuration, `${lines.join("\n")}\n`, { mode: 0o600 })
          return openSync(logFile, "a", 0o600)
        },
        catch: (cause) => failure(`${directory} cannot be used: ${String(cause)}`)
      })
      const from = statSync(logFile).size
      const libraries = [binary.libraries, process.env.LD_LIBRARY_PATH].filter(
        (path) => path !== undefined && path !== ""
      )
      const child = spawn(binary.path, [configuration], {
        argv0: binary.argv0,
        cwd: directory,
        env: { LC_ALL: "C", TZ: "UTC", ...(libraries.length === 0 ? {} : { LD_LIBRARY_PATH: libraries.join(":") }) },
        detached: true,
        stdio: ["ignore", log, log]
      })
      closeSync(log)
      const gone = new Promise<string>((resolve) => {
        child.once("error", (cause) => resolve(`could not be run: ${cause.message}`))
        child.once("exit", (code, signal) => resolve(`ended with ${signal ?? `code ${code}`} before it was ready`))
      })
      const identity = ProcessTable.identityOf(child.pid ?? 0)
      if (identity !== undefined) {
        yield* Effect.promise(() => ServerDirectory.writeIdentity(Path.join(directory, serverFile), identity))
      }
      const signal = (name: NodeJS.Signals) => Effect.sync(() => void child.kill(name))
      const stop = shutDown(
        (name) => child.kill(name),
        Effect.promise(() => gone)
      )
      const refuse = (problem: string) =>
        Effect.suspend(() => {
          const log = readFileSync(logFile).subarray(from).toString().trim().split("\n").slice(-12).join("\n")
          return Effect.fail(failure(`${binary.path} ${problem}. The end of ${logFile}:\n${log}`))
        })
      const ready = Effect.repeat(answers(port, options.password), {
        until: (ready) => ready,
        schedule: Schedule.spaced("10 millis")
      })
      return yield* Effect.raceFirst(
        Effect.as(ready, undefined),
        Effect.flatMap(
          Effect.promise(() => gone),
          refuse
        )
      ).pipe(
        Effect.timeoutOrElse({ duration: "30 seconds", orElse: () => refuse("was not ready in time") }),
        restore,
        Effect.onExit((exit) => (Exit.isFailure(exit) ? stop : Effect.void)),
        Effect.as({ pid: child.pid ?? 0, port, signal, stop })
      )
    })
  )

/** In order, then by force; a server that stands still is woken first. Never fails. */
const shutDown = (signal: (name: NodeJS.Signals) => void, gone: Effect.Effect<unknown>) =>
  Effect.gen(function* () {
    for (const name of ["SIGTERM", "SIGKILL"] as const) {
      signal("SIGCONT")
      signal(name)
      const done = yield* Effect.timeoutOption(Effect.interruptible(gone), "6 seconds")
      if (Option.isSome(done)) return
    }
  }).pipe(Postmaster.inRealTime)

/** Ends the server that a test run left behind that was killed by force. */
const stopOrphan = (directory: string) =>
  Effect.flatMap(ServerDirectory.readIdentity(Path.join(directory, serverFile)), (identity) =>
    identity === undefined
      ? Effect.void
      : shutDown(
          (name) => ProcessTable.signal(identity, name),
          Effect.repeat(
            Effect.sync(() => ProcessTable.isAlive(identity)),
            { while: (alive) => alive, schedule: Schedule.spaced("10 millis") }
          )
        )
  )

const encoded = (...command: ReadonlyArray<string>) =>
  [`*${command.length}`, ...command.flatMap((word) => [`$${Buffer.byteLength(word)}`, word]), ""].join("\r\n")

/**
 * Whether the server answers a PING, which it does once its data is loaded. The password goes before: without it a server would say that
 * it wants one, also while it loads. One that wants another one answers with an error.
 */
const answers = (port: number, password: string | undefined): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const socket = Net.connect({ host, port })
    const finish = (answer: boolean) => {
      socket.destroy()
      resume(Effect.succeed(answer))
    }
    const commands = [...(password === undefined ? [] : [encoded("AUTH", password)]), encoded("PING")]
    socket.once("connect", () => socket.write(commands.join("")))
    let said = ""
    socket.on("data", (answer) => {
      said += answer.toString("latin1")
      const lines = said.split("\r\n")
      if (lines.length > commands.length) finish(/^(\+PONG|-NOAUTH)/.test(lines[commands.length - 1] ?? ""))
    })
    socket.once("error", () => finish(false))
    socket.once("close", () => finish(false))
    return Effect.sync(() => socket.destroy())
  })
