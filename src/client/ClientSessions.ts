/**
 * Client sessions by key: one per tenant or account, made when somebody first asks for it.
 *
 * A session of the map lives as long as somebody holds it and `idleTimeToLive` longer, and at most as long as the scope the map
 * was made in: make it within the session of the accounts' owner, and it ends with that. All of them end side by side, each
 * as a `ClientSession` ends.
 */
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as RcMap from "effect/RcMap"
import type * as Scope from "effect/Scope"
import * as Lifetime from "../lifetime/Lifetime.ts"
import { ClientError, Closed } from "./ClientError.ts"
import * as ClientSession from "./ClientSession.ts"
import type { Options } from "./internal/ClientSessionOptions.ts"

/** How the map makes and keeps its sessions. */
export interface ClientSessionsOptions {
  /** The options of a key's session; the same for all keys where it is no function. Default: those of `ClientSession`. */
  readonly session?: Options | ((key: string) => Options) | undefined
  /** How long a session is kept that nobody holds. Default: 1 minute. */
  readonly idleTimeToLive?: Duration.Input | undefined
}

export class ClientSessions extends Context.Service<
  ClientSessions,
  {
    /**
     * The session of a key, held until the end of the current scope. One that is ended is replaced by a new one, one that could
     * not be made is made again. Fails with `Closed` after the end of the map.
     */
    readonly get: (key: string) => Effect.Effect<ClientSession.ClientSession["Service"], ClientError, Scope.Scope>
    /** {@link get} as a layer, with the ordinary `HttpClient` of the session. */
    readonly layer: (key: string) => Layer.Layer<ClientSession.ClientSession | HttpClient.HttpClient, ClientError>
    /** Ends the session of a key, also under those who hold it, and waits until it is over. */
    readonly end: (key: string) => Effect.Effect<void>
    readonly keys: Effect.Effect<Iterable<string>>
  }
>()("holdfast/client/ClientSessions") {}

/** Makes an empty map that ends with the current scope. */
export const make = Effect.fnUntraced(function* (options: ClientSessionsOptions = {}) {
  // Side by side: one that uses up its grace holds up no other.
  const lifetime = yield* Lifetime.scoped({ kind: "client-sessions", id: "client sessions", release: "parallel" })
  const services = yield* Effect.context<never>()
  const made = new Map<string, ClientSession.ClientSession["Service"]>()
  const closed = Effect.fail(new ClientError({ reason: new Closed({ client: "What keeps the client sessions" }) }))
  const optionsOf = (key: string) => (typeof options.session === "function" ? options.session(key) : options.session)

  // Never from within a lookup or a caller's fiber: what is dropped may have to be ended first, and nobody waits for that here.
  const drop = (key: string): Effect.Effect<unknown> =>
    Effect.forkIn(RcMap.invalidate(map, key), lifetime.scope, { startImmediately: true, uninterruptible: true })
  // Of the map and not of the first fiber that asks: a session outlives that one, and ends with the others.
  const lookup = (key: string) =>
    Effect.acquireRelease(
      Effect.suspend(() => ClientSession.make(optionsOf(key))).pipe(
        Lifetime.within(lifetime),
        Effect.provideContext(services),
        Effect.tap((session) => Effect.sync(() => made.set(key, session))),
        // A failure is not kept.
        Effect.tapCause((cause) => (Cause.hasInterrupts(cause) ? Effect.void : drop(key)))
      ),
      (session) =>
        Effect.suspend(() => {
          if (made.get(key) === session) made.delete(key)
          return session.end
        })
    )
  const map = yield* Lifetime.within(lifetime)(
    RcMap.make({ lookup, idleTimeToLive: options.idleTimeToLive ?? "1 minute" })
  )

  const get = (key: string): Effect.Effect<ClientSession.ClientSession["Service"], ClientError, Scope.Scope> =>
    Effect.suspend(() => {
      if (lifetime.isEnding()) return closed
      return made.get(key)?.isEnding() === true ? Effect.andThen(drop(key), RcMap.get(map, key)) : RcMap.get(map, key)
    })
  return ClientSessions.of({
    get,
    layer: (key) =>
      Layer.fresh(
        Layer.effectContext(
          Effect.map(get(key), (session) =>
            Context.make(ClientSession.ClientSession, session).pipe(Context.add(HttpClient.HttpClient, session.client))
          )
        )
      ),
    // Dropped first, so that a fiber that asks meanwhile gets a new one, which stays.
    end: (key) =>
      Effect.suspend(() => {
        const session = made.get(key)
        return session === undefined ? Effect.void : Effect.andThen(drop(key), session.end)
      }),
    keys: Effect.suspend(() => (lifetime.isEnding() ? Effect.succeed([]) : RcMap.keys(map)))
  })
})

/** A map that ends with the layer. */
export const layer = (options?: ClientSessionsOptions): Layer.Layer<ClientSessions> =>
  Layer.effect(ClientSessions, make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ idleTimeToLive: Config.Duration("CLIENT_IDLE") })`. */
export const layerConfig = (
  config: Config.Wrap<ClientSessionsOptions>
): Layer.Layer<ClientSessions, Config.ConfigError> => Layer.unwrap(Effect.map(Config.unwrap(config), layer))
