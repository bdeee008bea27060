/**
 * Outgoing HTTP that ends: an ordinary `HttpClient` whose connections live as long as its scope.
 *
 * A session begins with its scope and is over when every connection it opened was seen to close. On the way there it refuses new
 * requests, waits for the running ones up to `grace`, and aborts those that are left. The end never fails and never takes longer
 * than `grace` and a tenth of a second, whatever the servers do; what goes wrong in it is logged and counted, and replaces no
 * result. A request that is interrupted, or whose body is let go of in the middle, destroys its connection at once.
 *
 * ```
 * scope ── client-session ──┬── running requests     end: 1. refused from now on, waited for up to `grace`, aborted
 *                           ├── dispatcher                2. gives up what still waits for a connection
 *                           └── sockets                   3. destroyed, and seen to close
 * ```
 *
 * A worker thread or process makes its own session and ends with it; see `docs/outgoing-http.md`.
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { CircuitBreakerError } from "effect/persistence/CircuitBreaker"
import type { RateLimiterError } from "effect/persistence/RateLimiter"
import type * as Scope from "effect/Scope"
import * as Deadlines from "../lifetime/Deadlines.ts"
import * as Lifetime from "../lifetime/Lifetime.ts"
import type { Home } from "./internal/ClientCall.ts"
import { ClientError, Closed, HeldBack, InvalidConfig } from "./ClientError.ts"
import * as ClientRetries from "./internal/ClientRetries.ts"
import * as ClientSessionOptions from "./internal/ClientSessionOptions.ts"
import type { Limits, Options } from "./internal/ClientSessionOptions.ts"
import * as ClientSockets from "./internal/ClientSockets.ts"
import * as ClientTransport from "./internal/ClientTransport.ts"

/** A session of outgoing HTTP. */
export class ClientSession extends Context.Service<
  ClientSession,
  {
    /** Names it in the ledger and in messages. */
    readonly id: string
    /** The ordinary client. Its errors have a `ClientError` as cause: see `ClientError.from`. */
    readonly client: HttpClient.HttpClient
    /** Requests that run now, from the call to the last byte of the body. */
    readonly running: () => number
    /** True from the moment somebody asked for its end. */
    readonly isEnding: () => boolean
    /**
     * Ends it and waits until it is over. May be called from anywhere, any number of times; the scope it was made in does the
     * same. Never fails.
     */
    readonly end: Effect.Effect<void>
  }
>()("holdfast/client/ClientSession") {}

let sessions = 0

/**
 * Makes a session that ends with the current scope.
 *
 * **Gotchas**
 *
 * `"shared"` finds its connections in `ClientSockets.Shared`, which {@link layer} provides by itself.
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {}
): Effect.fn.Return<ClientSession["Service"], ClientError, Scope.Scope> {
  const limits = yield* ClientSessionOptions.decode(options)
  const shared = yield* Effect.serviceOption(ClientSockets.Shared)
  if (limits.reuse === "shared" && Option.isNone(shared)) {
    const problem = `"shared" needs the connections to share: use ClientSession.layer, or provide ClientSession.layerShared`
    return yield* new ClientError({ reason: new InvalidConfig({ field: "reuse", problem }) })
  }
  const id = `client session ${++sessions}`
  const lifetime = yield* Lifetime.scoped({ kind: "client-session", id, attributes: { reuse: limits.reuse } })
  return yield* Lifetime.within(lifetime)(
    Effect.gen(function* () {
      const sockets =
        limits.reuse === "shared" && Option.isSome(shared) ? shared.value : yield* ClientSockets.make(limits)
      const home = yield* makeHome(limits, sockets)
      const client = ClientTransport.make(home, () => (lifetime.isEnding() ? closed(id) : undefined))
      return ClientSession.of({
        id,
        client: guarded(client, options),
        isEnding: lifetime.isEnding,
        running: () => home.running.size,
        end: lifetime.end()
      })
    })
  )
})

const closed = (id: string) => new ClientError({ reason: new Closed({ client: `The ${id}` }) })

/** What the calls need. Its end waits for them up to `grace`, aborts the rest, and waits until their sockets are closed. */
const makeHome = Effect.fnUntraced(function* (limits: Limits, sockets: ClientSockets.ClientSockets) {
  const clock = yield* Clock.Clock
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const idle = yield* Latch.make(true)
  const home: Home = {
    limits,
    sockets,
    totalDeadlines: yield* Deadlines.make(limits.timeout),
    silenceDeadlines: yield* Deadlines.make(limits.silenceTimeout),
    headersDeadlines: yield* Deadlines.make(limits.headersTimeout),
    bodyDeadlines: yield* Deadlines.make(limits.bodyTimeout),
    running: new Set(),
    budget: limits.retry === undefined ? undefined : ClientRetries.makeBudget(limits.retry),
    after: (millis, then) => {
      const fiber = runFork(Effect.andThen(Effect.sleep(millis), Effect.sync(then)))
      return () => fiber.interruptUnsafe()
    },
    nowMillis: () => clock.currentTimeMillisUnsafe(),
    idle: () => idle.openUnsafe()
  }
  const drain = Effect.gen(function* () {
    if (home.running.size > 0) {
      idle.closeUnsafe()
      yield* Effect.timeoutOption(idle.await, limits.grace)
    }
    for (const call of Array.from(home.running)) call.fail(aborted)
    yield* sockets.settled
  })
  yield* Effect.addFinalizer(() => drain)
  return home
})

const aborted = new ClientError({ reason: new Closed({ client: "The client session of this request" }) })

/** Before each call what Effect has for it; its errors become ours, so that the client stays an ordinary one. */
const guarded = (client: HttpClient.HttpClient, options: Options): HttpClient.HttpClient => {
  const { circuitBreaker, rateLimit } = options
  const broken = circuitBreaker === undefined ? client : withBreaker(client, circuitBreaker)
  return rateLimit === undefined ? broken : withLimit(broken, rateLimit)
}

const withBreaker = (client: HttpClient.HttpClient, breaker: NonNullable<Options["circuitBreaker"]>) =>
  heldBackBy(HttpClient.withCircuitBreaker(client, breaker).execute, "circuit breaker")

const withLimit = (client: HttpClient.HttpClient, limit: NonNullable<Options["rateLimit"]>) =>
  heldBackBy(HttpClient.withRateLimiter(client, limit).execute, "rate limit")

type Refusal = CircuitBreakerError | RateLimiterError

const heldBackBy = (
  execute: (request: HttpClientRequest) => Effect.Effect<HttpClientResponse, HttpClientError | Refusal>,
  by: HeldBack["by"]
): HttpClient.HttpClient =>
  HttpClient.makeWith(
    (asked: Effect.Effect<HttpClientRequest>) =>
      Effect.flatMap(asked, (request) =>
        Effect.catchIf(
          execute(request),
          (error): error is Refusal => error._tag !== "HttpClientError",
          ({ reason }) => Effect.fail(heldBack(request, by, "retryAfter" in reason ? reason.retryAfter : undefined))
        )
      ),
    Effect.succeed
  )

const heldBack = (
  request: HttpClientRequest,
  by: HeldBack["by"],
  retryAfter: Duration.Duration | undefined
): HttpClientError => {
  const retryAfterMillis = retryAfter === undefined ? undefined : Duration.toMillis(retryAfter)
  const origin = URL.parse(request.url)?.origin ?? "the server"
  return ClientTransport.wrapped(request, new ClientError({ reason: new HeldBack({ origin, by, retryAfterMillis }) }))
}

/**
 * The connections of all `"shared"` sessions below it: in the layer of the program, or of its runtime, they last from one session
 * to the next.
 */
export const layerShared = (options: Omit<Options, "reuse"> = {}): Layer.Layer<ClientSockets.Shared, ClientError> =>
  Layer.effect(
    ClientSockets.Shared,
    Effect.flatMap(ClientSessionOptions.decode({ ...options, reuse: "pooled" }), ClientSockets.make)
  )

/** One value, so that sessions which live at the same time share them. */
const sharedByDefault = layerShared()

const services = (options: Options) =>
  Effect.map(make(options), (session) =>
    Context.make(ClientSession, session).pipe(Context.add(HttpClient.HttpClient, session.client))
  )

/**
 * A session of its own wherever it is provided, also when the same layer is provided twice.
 *
 * **Gotchas**
 *
 * A `"shared"` one uses the connections of {@link layerShared} where they are provided. Where they are not, sessions of a runtime
 * share some only as long as one of them lives.
 */
export const layer = (options: Options = {}): Layer.Layer<ClientSession | HttpClient.HttpClient, ClientError> => {
  const session = Layer.fresh(Layer.effectContext(services(options)))
  return options.reuse === "shared" ? Layer.provide(session, sharedAround()) : session
}

/** Those that are there, or else the default ones: not fresh, unlike the session. */
const sharedAround = (): Layer.Layer<ClientSockets.Shared, ClientError> =>
  Layer.unwrap(
    Effect.map(
      Effect.serviceOption(ClientSockets.Shared),
      Option.match({
        onNone: () => sharedByDefault,
        onSome: (shared) => Layer.succeed(ClientSockets.Shared, shared)
      })
    )
  )

/** {@link layer} with options from the configuration. */
export const layerConfig = (
  options: Config.Wrap<Options>
): Layer.Layer<ClientSession | HttpClient.HttpClient, ClientError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))
