/**
 * The sockets of outgoing HTTP: one undici dispatcher, and under it every connection it opened, each in the ledger.
 *
 * A socket lives in a fiber of its own that opens it, waits for its end and destroys it when it is interrupted first. So the
 * scope these were made in is over when every one of them was seen to close, whatever the server does: first the dispatcher
 * gives up what still waits in it, then the sockets go.
 */
import { Agent, buildConnector, Client, Pool } from "@effect/platform-node/Undici"
import type * as Undici from "@effect/platform-node/Undici"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Scope from "effect/Scope"
import { Socket } from "node:net"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as Deadlines from "../../lifetime/Deadlines.ts"
import * as SteadyClock from "../../lifetime/internal/SteadyClock.ts"
import * as Ledger from "../../lifetime/Ledger.ts"
import type { Phase } from "../ClientError.ts"
import type { Limits } from "./ClientSessionOptions.ts"

/** Where requests go, and what is open because of them. */
export interface ClientSockets {
  readonly dispatcher: Undici.Dispatcher
  /** Waits until the sockets that were destroyed so far are closed. */
  readonly settled: Effect.Effect<void>
  /** Milliseconds of a clock that nobody sets, for {@link Line.heardAt} and {@link condemn}. */
  readonly nowMillis: () => number
  /** Closes the connections of an origin that no request has and that were not heard of since a moment. */
  readonly condemn: (origin: string, since: number) => void
}

/** What is known of a connection. */
interface Line {
  readonly origin: string
  /** Whether no request has it, or is in line for it. */
  readonly isIdle: () => boolean
  /** The socket, while it is being opened for one request. */
  opening: Socket | undefined
  /** When the last answer came on the socket that is open now; undefined before the first. */
  heardAt: number | undefined
}

/** A request that can be given up before it has a connection. */
export abstract class Waiter {
  abstract isOver: boolean
  /** @internal */
  line: Line | undefined

  /** Destroys the connection that is being opened for it. The next call in line has a connection of its own opened. */
  leave(): void {
    this.line?.opening?.destroy()
  }
}

/** One connection of an origin. It has one request at a time, and tells it for which it is being opened. */
class Connection extends Client {
  private readonly line: Line

  constructor(origin: URL, options: Undici.Client.Options, line: Line) {
    super(origin, options)
    this.line = line
  }

  override dispatch(options: Undici.Dispatcher.DispatchOptions, handler: Undici.Dispatcher.DispatchHandler): boolean {
    if (handler instanceof Waiter) {
      // Given up while it was in line: nothing is to be opened for it.
      if (handler.isOver) return true
      handler.line = this.line
    }
    return super.dispatch(options, handler)
  }
}

/** Sockets that all sessions of a runtime share which ask for it. They are closed with the runtime. */
export class Shared extends Context.Service<Shared, ClientSockets>()("holdfast/client/ClientSockets/Shared") {}

/** Errors met while closing what outgoing HTTP holds. They are logged, and replace no result. */
export const closeErrors = Metric.counter("holdfast_client_close_errors_total", {
  description: "Errors met while closing sockets of outgoing HTTP",
  incremental: true
})

/** Why a connection did not come about, in the words of `ClientError`. */
export class ConnectFailure extends Error {
  readonly phase: Phase | "timeout"
  readonly code: string | undefined

  constructor(phase: Phase | "timeout", code: string | undefined) {
    super(`No connection: ${phase} ${code ?? ""}`)
    this.phase = phase
    this.code = code
  }
}

const phaseOf = (error: NodeJS.ErrnoException, isConnected: boolean): Phase =>
  error.syscall === "getaddrinfo" ? "resolve" : isConnected ? "tls" : "connect"

// Of several addresses that were tried, each has its error.
const codeOf = (error: NodeJS.ErrnoException): string | undefined =>
  error.code ??
  (error instanceof AggregateError ? error.errors.find((one) => one?.code !== undefined)?.code : undefined)

const closed = (socket: Socket): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (socket.closed) return resume(Effect.void)
    const done = () => resume(Effect.void)
    socket.once("close", done)
    return Effect.sync(() => socket.off("close", done))
  })

/** How long the dispatcher may take over what it gives up; its sockets are closed in any case. */
const destroyLimit = Duration.millis(50)

type Connect = buildConnector.connector

/** Opens nothing yet. All of it is closed with the current scope. */
export const make = Effect.fnUntraced(function* (limits: Limits) {
  // Before the dispatcher, so closed after it; side by side, because none needs another.
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const deadlines = yield* Deadlines.make(limits.connectTimeout)
  const open = new Map<Socket, Line>()
  const clock = yield* Clock.Clock
  let count = 0

  const connector = buildConnector({
    ...limits.tls,
    // A request that is interrupted destroys its socket, so that no other request may be on it.
    allowH2: false,
    // Ours is exact, and on the clock of the program.
    timeout: 0
  })
  const connectAs =
    (line: Line): Connect =>
    (options, callback) => {
      const origin = `${options.protocol}//${options.host ?? options.hostname}`
      let isConnected = false
      let isAnswered = false
      const answer = (outcome: ConnectFailure | Socket) => {
        if (isAnswered) return
        isAnswered = true
        line.opening = undefined
        if (outcome instanceof Error) callback(outcome, null)
        else callback(null, outcome)
      }
      const never = () => answer(new ConnectFailure("connect", undefined))
      const begin = Effect.sync(() => {
        // undici gives the socket at once, which its types do not say.
        const socket: unknown = connector(options, (error, socket) => {
          forget()
          answer(error === null ? socket : new ConnectFailure(phaseOf(error, isConnected), codeOf(error)))
        })
        if (!(socket instanceof Socket)) throw new Error("undici gives no socket to watch")
        const forget = deadlines.add(() => {
          answer(new ConnectFailure("timeout", undefined))
          socket.destroy()
        })
        open.set(socket, line)
        line.opening = socket
        line.heardAt = undefined
        socket.once("connect", () => {
          isConnected = true
        })
        socket.once("close", () => {
          forget()
          open.delete(socket)
          never()
        })
        return socket
      })
      const end = (socket: Socket) => {
        socket.destroy()
        return closed(socket)
      }
      const held = Ledger.hold(
        // Destroying waits for nobody on the network.
        { kind: "socket", id: `socket ${++count}`, attributes: { origin }, releaseLimit: "none" },
        begin,
        (socket) => Effect.suspend(() => end(socket))
      )
      // After the end of the scope this is interrupted before it begins.
      runFork(
        Effect.forkIn(Effect.ensuring(Effect.scoped(Effect.flatMap(held, closed)), Effect.sync(never)), scope, {
          startImmediately: true
        })
      ).addObserver(() => {
        if (scope.state._tag === "Closed") never()
      })
    }

  const connectionOptions: Undici.Client.Options = {
    // No server may ask for more than the session allows.
    keepAliveTimeout: Duration.toMillis(limits.idleTime),
    keepAliveMaxTimeout: Duration.toMillis(limits.idleTime),
    // Those of the session are exact, on the clock of the program, and cost less.
    headersTimeout: 0,
    bodyTimeout: 0,
    allowH2: false
  }
  const connection = (origin: URL) => {
    const isIdle = () => made.stats.size === 0
    const line: Line = { origin: origin.origin, isIdle, opening: undefined, heardAt: undefined }
    const made = new Connection(origin, { ...connectionOptions, connect: connectAs(line) }, line)
    return made
  }
  const dispatcher = yield* Effect.acquireRelease(
    Effect.sync(
      () =>
        new Agent({
          factory: (origin) =>
            new Pool(origin, { connections: limits.connectionsPerOrigin, allowH2: false, factory: connection })
        })
    ),
    (agent) =>
      Effect.tryPromise(() => agent.destroy()).pipe(
        Effect.timeoutOption(destroyLimit),
        Effect.catchCause((cause) =>
          Effect.andThen(
            Metric.update(closeErrors, 1),
            LogEvent.warning(
              { event: "client.close_failed" },
              "Closing an HTTP dispatcher met a failure; its sockets are closed all the same",
              cause
            )
          )
        )
      )
  )

  const settled = Effect.suspend(() =>
    Effect.forEach(
      Array.from(open.keys()).filter((socket) => socket.destroyed),
      closed,
      { discard: true, concurrency: "unbounded" }
    )
  )
  return {
    dispatcher,
    settled,
    nowMillis: () => SteadyClock.millis(clock),
    condemn: (origin, since) => {
      for (const [socket, { heardAt, isIdle, origin: its }] of open) {
        if (its === origin && heardAt !== undefined && heardAt < since && isIdle()) socket.destroy()
      }
    }
  } satisfies ClientSockets as ClientSockets
})
