/**
 * A sandbox as a server: it takes connections of PostgreSQL's protocol and brings them all to one transaction, which is rolled
 * back at the end.
 *
 * It lives as long as the scope it was made in. It closes in this order: nobody may connect any more, the connections of the app
 * are closed, what runs is cancelled, the transaction is rolled back.
 */
import * as Effect from "effect/Effect"
import * as Pool from "effect/Pool"
import * as Redacted from "effect/Redacted"
import type { SqlError } from "effect/sql/SqlError"
import { Buffer } from "node:buffer"
import { randomInt } from "node:crypto"
import { type AddressInfo, createServer, type Socket } from "node:net"
import { inRealTime } from "../../embedded/Postmaster.ts"
import * as Ledger from "../../lifetime/Ledger.ts"
import * as PgTarget from "../../postgres/internal/PgTarget.ts"
import * as SandboxBackend from "./SandboxBackend.ts"
import * as Frames from "./SandboxFrames.ts"
import { Session } from "./SandboxSession.ts"
import * as SandboxTurns from "./SandboxTurns.ts"

const [sslRequest, gssRequest, cancelRequest] = [80877103, 80877104, 80877102]

/** Parameters of a connection that are no settings, or would end a transaction that waits for its test. */
const notSet: ReadonlySet<string> = new Set([
  "user",
  "database",
  "replication",
  "options",
  "client_encoding",
  "application_name",
  "client_connection_check_interval",
  "idle_in_transaction_session_timeout",
  "idle_session_timeout",
  "transaction_timeout"
])

/** What a client says first: a number and, mostly, parameters. */
const parametersOf = (startup: Buffer): ReadonlyMap<string, string> => {
  const found = new Map<string, string>()
  for (let at = 8; at < startup.length && startup[at] !== 0;) {
    const [name, next] = Frames.textAt(startup, at)
    const [value, rest] = Frames.textAt(startup, next)
    found.set(name, value)
    at = rest
  }
  return found
}

const authenticated = Frames.frame("R", Frames.int32(0))

/** How long the end of a sandbox may take at the server, in milliseconds; then its connection is closed. */
const endWithin = 3000

export interface Sandbox {
  readonly url: Redacted.Redacted<string>
  readonly pid: number
  /** Connections of the app that are open. */
  readonly open: () => number
  /** What ended it before its end. */
  readonly broken: () => string | undefined
}

/** The connections of the sandboxes of one database. */
export interface Backends {
  readonly target: PgTarget.Target
  readonly pool: Pool.Pool<SandboxBackend.Backend, SqlError>
}

/** How many sandboxes of a database there are at once; more wait. */
const most = 50

/** Opens the first of them, for the current scope. They are used again. */
export const backends = Effect.fnUntraced(function* (url: Redacted.Redacted<string>) {
  const acquire = SandboxBackend.open(url, "holdfast-sandbox")
  const pool = yield* Pool.makeWithTTL({ acquire, min: 1, max: most, timeToLive: "1 hour" })
  yield* Effect.scoped(Pool.get(pool))
  return { target: PgTarget.of(url), pool } satisfies Backends
}, inRealTime)

/** The end of a transaction; false where the server has not confirmed it in time. */
const end = (turns: SandboxTurns.Turns): Effect.Effect<boolean> =>
  Effect.callback<boolean>((resume) => {
    const timer = setTimeout(() => resume(Effect.succeed(false)), endWithin)
    turns.close(() => {
      clearTimeout(timer)
      resume(Effect.succeed(turns.broken === undefined))
    })
  })

/** Makes one in front of a database. */
export const make = Effect.fnUntraced(function* ({ pool, target }: Backends, patience: number) {
  const backend = yield* Pool.get(pool)
  const turns = new SandboxTurns.Turns(backend, patience)
  yield* Ledger.hold(
    { kind: "sandbox", id: `${target.where}, backend ${backend.pid}`, releaseLimit: "none" },
    Effect.callback<void>((resume) => turns.start(() => resume(Effect.void))),
    () => Effect.flatMap(end(turns), (isClean) => (isClean ? Effect.void : Pool.invalidate(pool, backend)))
  )

  const sessions = new Map<number, Session>()
  const sockets = new Set<Socket>()
  const greet = (socket: Socket, startup: Buffer): void => {
    const parameters = parametersOf(startup)
    const refuse = (code: string, message: string) =>
      socket.end(Frames.report({ severity: "FATAL", code, message, hint: "Use the URL of the sandbox as it is." }))
    const [user, database] = [parameters.get("user"), parameters.get("database") ?? parameters.get("user")]
    if (turns.broken !== undefined) return void refuse("57P01", turns.broken)
    if (user !== target.user)
      return void refuse("28000", `A sandbox is one connection of the role ${target.user}, not of ${user}`)
    if (database !== target.database)
      return void refuse("3D000", `The sandbox is of the database ${target.database}, not of ${database}`)
    const settings = Object.fromEntries(
      Array.from(parameters).filter(([name]) => !notSet.has(name) && !name.startsWith("_pq_."))
    )
    const secret = randomInt(1, 2 ** 31)
    const session = new Session(turns, socket, JSON.stringify(parameters.get("application_name") ?? ""), settings)
    sessions.set(secret, session)
    socket.on("close", () => sessions.delete(secret))
    const said = new Map([
      ...backend.parameters,
      ...Object.entries(settings).filter(([name]) => backend.parameters.has(name))
    ])
    const parameterFrames = Array.from(said, ([name, value]) =>
      Frames.frame("S", Frames.text(name), Frames.text(value))
    )
    const key = Frames.frame("K", Frames.int32(backend.pid), Frames.int32(secret))
    session.start(Buffer.concat([authenticated, ...parameterFrames, key, Frames.ready("I")]))
  }

  const server = createServer((socket) => {
    sockets.add(socket)
    socket.setNoDelay(true)
    socket.on("error", () => socket.destroy())
    socket.on("close", () => sockets.delete(socket))
    let rest: Buffer = Buffer.alloc(0)
    const first = (bytes: Buffer) => {
      rest = Buffer.concat([rest, bytes])
      if (rest.length < 8 || rest.length < rest.readUInt32BE(0)) return
      const length = rest.readUInt32BE(0)
      const [startup, more] = [rest.subarray(0, length), rest.subarray(length)]
      const code = startup.readUInt32BE(4)
      if (code === sslRequest || code === gssRequest) {
        rest = more
        socket.write("N")
        return
      }
      socket.off("data", first)
      if (code === cancelRequest) {
        sessions.get(startup.readUInt32BE(12))?.cancel()
        socket.end()
      } else greet(socket, startup)
    }
    socket.on("data", first)
  })
  const port = yield* Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed((server.address() as AddressInfo).port)))
    }),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        for (const socket of sockets) socket.destroy()
      })
  )
  const own = new URL(Redacted.value(target.config.url))
  own.hostname = "127.0.0.1"
  own.port = String(port)
  own.search = "?sslmode=disable"
  return {
    url: Redacted.make(own.href),
    pid: backend.pid,
    open: () => sessions.size,
    broken: () => turns.broken
  } satisfies Sandbox
}, inRealTime)
