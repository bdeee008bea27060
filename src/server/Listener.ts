/**
 * The socket that the service listens on.
 *
 * It is open from when its layer is built until the layer closes: then no connection is accepted any more (see {@link ListenerEnd}),
 * running requests are answered within two seconds, and the rest is cut.
 *
 * **Details**
 *
 * A client has a bounded time to send a request, and a bounded number of connections, see {@link ListenerLimits}. A socket that took
 * too long is answered 408 and destroyed a second later, whatever its peer does.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import { Buffer } from "node:buffer"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { createServer as createSecureServer, Server as SecureServer } from "node:https"
import type { Duplex } from "node:stream"
import * as Loopback from "../lifetime/internal/Loopback.ts"
import * as ListenerTls from "./ListenerTls.ts"
import * as ListenerEnd from "./ListenerEnd.ts"
import * as ListenerLimits from "./ListenerLimits.ts"
import * as ListenerPort from "./ListenerPort.ts"
import * as RawAnswer from "./RawAnswer.ts"
import * as SecurityHeaders from "./SecurityHeaders.ts"
import { SettingsError } from "./Settings.ts"

/** How long a client may take. */
export interface Timeouts {
  /** For the headers of a request, or to send one at all on a new connection. Default: 20 seconds. */
  readonly headers?: Duration.Input | undefined
  /** For a whole request. Default: 1 minute. */
  readonly request?: Duration.Input | undefined
  /** With no byte sent or taken on a connection, while it is being answered. Default: 2 minutes. */
  readonly idle?: Duration.Input | undefined
  /** How often the first two are looked at. Default: 2 seconds. */
  readonly checkEvery?: Duration.Input | undefined
}

/** Where to listen, and what a client may have. */
export interface Options extends ListenerLimits.Limits {
  /** None, the default: http. */
  readonly tls?: Option.Option<ListenerTls.Files> | undefined
  readonly port: number
  readonly host: string
  /** A socket that listens already, in the place of port and host. Default: none. */
  readonly descriptor?: Option.Option<number> | undefined
  readonly timeouts?: Timeouts | undefined
  /**
   * How long a connection is kept on which nobody asks. A proxy that keeps it for longer sends a request into a connection that is
   * being closed, sooner or later, and answers 502. nginx and the load balancers of AWS keep theirs for 60 seconds, Traefik for 90,
   * Caddy for 120. Default: 130 seconds.
   */
  readonly keepAlive?: Duration.Duration | undefined
  /** For so long the service has been about to end when the listener closes, see {@link ListenerEnd}. Default: it was not. */
  readonly drainDelay?: Duration.Duration | undefined
  /** Called for each request when its headers were read. Default: nobody is. */
  readonly watch?: ((request: IncomingMessage, response: ServerResponse) => void) | undefined
}

const answer = (
  response: ServerResponse,
  status: number,
  body: string,
  headers: Readonly<Record<string, string>>
): void => {
  const content = { "content-type": "application/problem+json", "content-length": Buffer.byteLength(body) }
  response.writeHead(status, { ...SecurityHeaders.everywhere, ...headers, ...content }).end(body)
}

/** What HTTP itself forbids never reaches the router, and is a problem all the same. */
const refusals: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: RawAnswer.text(
    431,
    "HeadersTooLarge",
    "The headers are too large",
    "The headers of a request are at most 16 KiB."
  ),
  ERR_HTTP_REQUEST_TIMEOUT: RawAnswer.text(
    408,
    "RequestTimeout",
    "The request took too long",
    "Send the request again, without a pause in it."
  )
}
const malformed = RawAnswer.text(400, "RequestInvalid", "The request is malformed", "The request is no valid HTTP.")

const refused = new WeakSet<Duplex>()

/** The last response of a socket. */
const responses = new WeakMap<Duplex, ServerResponse>()

const isAnswering = (socket: Duplex): boolean => {
  const response = responses.get(socket)
  return response?.headersSent === true && !response.writableFinished
}

/**
 * What still arrives is not looked at: a request that was told to come again must not be run. An answer in the middle of another
 * would be read as part of it.
 */
const refuse = (error: NodeJS.ErrnoException, socket: Duplex): void => {
  if (refused.has(socket)) return
  refused.add(socket)
  if (!socket.writable || isAnswering(socket)) socket.destroy(error)
  else {
    socket.removeAllListeners("data").on("data", () => undefined)
    RawAnswer.close(socket, refusals[error.code ?? ""] ?? malformed)
  }
}

/** The only expectation there is, is `100-continue` (RFC 9110 10.1.1). */
const unmet = (_: unknown, response: ServerResponse): void => {
  const body = RawAnswer.body(
    417,
    "ExpectationFailed",
    "The expectation cannot be met",
    "Expect nothing but 100-continue."
  )
  answer(response, 417, body, { connection: "close" })
}

/** Connections are accepted a moment before there is a router: the request of a client that is so early waits for it. */
const serverOf = (
  {
    descriptor = Option.none(),
    drainDelay = Duration.zero,
    keepAlive = Duration.seconds(130),
    timeouts = {},
    watch
  }: Options,
  pair: ListenerTls.Pair | undefined
) => {
  const options = {
    // Its hosts are looked at with its path.
    requireHostHeader: false,
    headersTimeout: Duration.toMillis(timeouts.headers ?? "20 seconds"),
    keepAliveTimeout: Duration.toMillis(keepAlive),
    requestTimeout: Duration.toMillis(timeouts.request ?? "1 minute"),
    connectionsCheckingInterval: Duration.toMillis(timeouts.checkEvery ?? "2 seconds")
  }
  const server = pair === undefined ? createServer(options) : createSecureServer({ ...options, ...pair })
  const isAnswered = ListenerEnd.gently(server, ListenerEnd.keptFor(drainDelay))
  const begins = (request: IncomingMessage, response: ServerResponse) => {
    isAnswered(response)
    responses.set(request.socket, response)
    watch?.(request, response)
  }
  server
    .on("clientError", refuse)
    .on("checkExpectation", unmet)
    // A client that takes nothing of an answer keeps it in memory. A stream of events says something every 15 seconds.
    .setTimeout(Duration.toMillis(timeouts.idle ?? "2 minutes"))
  server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => {
    if (server.listenerCount("checkContinue") > 1) return begins(request, response)
    // As Node does where nobody listens.
    response.writeContinue()
    server.emit("request", request, response)
  })
  const waiting: Array<readonly [IncomingMessage, ServerResponse]> = []
  server.on("newListener", (event: string, serve: (request: IncomingMessage, response: ServerResponse) => void) => {
    if (event !== "request") return
    // One that is gone meanwhile needs no answer.
    for (const [request, response] of waiting.splice(0)) if (!request.destroyed) serve(request, response)
  })
  server.on("request", (request: IncomingMessage, response: ServerResponse) => {
    begins(request, response)
    if (server.listenerCount("request") === 1) waiting.push([request, response])
  })
  if (Option.isSome(descriptor)) {
    server.once("listening", () => {
      if (server.address() === null) server.emit("error", new Error("it is not one of TCP"))
    })
  }
  return server
}

/** What is in the files by now: the settings were read a moment ago. */
const pairOf = ({ tls = Option.none() }: Options) =>
  Option.match(tls, {
    onNone: () => Effect.undefined,
    onSome: (files) =>
      Effect.try({
        try: () => ListenerTls.read(files),
        catch: () => new SettingsError({ variable: "HOLDFAST_TLS_CERT", problem: "was changed and makes no sense now" })
      })
  })

/** What `listen` of Node's server takes. */
const placeOf = ({ descriptor = Option.none(), host, port }: Options) =>
  Option.isSome(descriptor) ? { fd: descriptor.value } : { host, port }

const whyNot = (cause: unknown) => (cause instanceof Error ? cause.message : String(cause))

const notListening = ({ descriptor = Option.none(), host, port }: Options, cause: unknown) =>
  Option.isSome(descriptor)
    ? new SettingsError({
        variable: "LISTEN_FDS",
        problem: `hands over a socket that cannot be served: ${whyNot(cause)}. Give the socket unit a ListenStream such as 127.0.0.1:3000`
      })
    : new SettingsError({
        variable: "PORT",
        problem: `${port} on HOST ${host} cannot be had: ${whyNot(cause)}. Set another, such as PORT=3001`
      })

/** Listens, or fails with what to change. */
export const layer = (options: Options) =>
  Effect.gen(function* () {
    const bound = yield* ListenerLimits.make(options)
    const pair = yield* pairOf(options)
    const server = serverOf(options, pair)
    bound(server)
    const listening = NodeHttpServer.layer(() => server, { ...placeOf(options), gracefulShutdownTimeout: "2 seconds" })
    return options.tls !== undefined &&
      Option.isSome(options.tls) &&
      pair !== undefined &&
      server instanceof SecureServer
      ? Layer.merge(listening, Layer.effectDiscard(ListenerTls.reload(server, options.tls.value, pair)))
      : listening
  }).pipe(
    Layer.unwrap,
    Layer.catchTag("ServeError", ({ cause }) => Layer.effectContext(Effect.fail(notListening(options, cause))))
  )

/**
 * Where the service is, as it says itself. A socket that was handed over is not on the `host` of the options, so what it listens on is
 * looked at here: without an origin over https it has to be this machine's own.
 */
export const urlOf = Effect.fnUntraced(function* (
  {
    descriptor = Option.none(),
    origin,
    tls = Option.none(),
    ...options
  }: Options & {
    readonly origin: Option.Option<URL>
  },
  address: NetAddress.SocketAddress
) {
  const port = "port" in address ? address.port : options.port
  const host = "port" in address && Option.isSome(descriptor) ? NetAddress.formatIp(address.address) : options.host
  if (Option.isNone(origin) && !Loopback.isLoopback(host)) {
    const problem = `must be set to the https origin of the service when its socket listens on ${host}`
    return yield* new SettingsError({ variable: "HOLDFAST_ORIGIN", problem })
  }
  return `${Option.isSome(tls) ? "https" : "http"}://${NetAddress.formatUrlHostString(host)}:${port}`
})

/**
 * Fails as {@link layer} would, before anything else is begun: what runs already has things to say, and there is to be one line
 * that tells what to change. A socket that was handed over is there, and would be lost with its first listener.
 */
export const probe = (options: Options) =>
  Effect.andThen(
    pairOf(options),
    options.descriptor !== undefined && Option.isSome(options.descriptor)
      ? Effect.void
      : Effect.mapError(ListenerPort.check(options.host, options.port), (cause) => notListening(options, cause))
  )
