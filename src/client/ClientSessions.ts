/**
 * Client sessions by key: one per tenant or account, made when somebody first asks for it.
 *
 * A session of the map lives as long as somebody holds it and `idleTimeToLive` longer, and at most as long as the scope the map
 * was made in: make it within the session of whoever owns the accounts, and it ends with that. All of them end side by side, each
 * as a `ClientSession` ends.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as RcMap from "effect/RcMap"
import type * as Scope from "effect/Scope"
import * as Lifetime from "../Lifetime.ts"
import type { ClientError } from "./ClientError.ts"
import * as ClientSession from "./ClientSession.ts"
import type { Options } from "./ClientSessionOptions.ts"

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
    /** The session of a key, held until the end of the current scope. One that was ended is replaced by a new one. */
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
  const made = new Map<string, ClientSession.ClientSession["Service"]>()
  const optionsOf = (key: string) => (typeof options.session === "function" ? options.session(key) : options.session)
  const lookup = (key: string) =>
    Effect.tap(ClientSession.make(optionsOf(key)), (session) =>
      Effect.acquireRelease(
        Effect.sync(() => made.set(key, session)),
        () => Effect.sync(() => made.get(key) === session && made.delete(key))
      )
    )
  const map = yield* Lifetime.within(lifetime)(
    RcMap.make({ lookup, idleTimeToLive: options.idleTimeToLive ?? "1 minute" })
  )

  const get = (key: string) =>
    Effect.suspend(() =>
      made.get(key)?.isEnding() === true
        ? Effect.andThen(RcMap.invalidate(map, key), RcMap.get(map, key))
        : RcMap.get(map, key)
    )
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
    end: (key) => Effect.suspend(() => Effect.andThen(made.get(key)?.end ?? Effect.void, RcMap.invalidate(map, key))),
    keys: RcMap.keys(map)
  })
})

/** A map that ends with the layer. */
export const layer = (options?: ClientSessionsOptions): Layer.Layer<ClientSessions> =>
  Layer.effect(ClientSessions, make(options))
