/**
 * An app's session as a service: typed data, somebody's identity, and a lifetime to tie work to.
 *
 * A handle lives as long as the scope that its layer is built in, usually a request. The session itself goes on in the
 * store; work forked with {@link Session.run} or built on {@link Session.lifetime} goes on until the session ends, and no
 * longer. After the end nothing brings it back.
 *
 * **Example** (An app's session)
 *
 * ```ts
 * class AppSession extends Session.Service<AppSession>()("app/AppSession", {
 *   data: Schema.Struct({ cart: Schema.Array(Schema.String) }),
 *   initial: { cart: [] }
 * }) {}
 * ```
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Lifetime from "../Lifetime.ts"
import { SessionError, SessionUndecodable } from "./SessionError.ts"
import type { SessionId } from "./SessionId.ts"
import type { Device, SessionRecord } from "./SessionRecord.ts"
import { type CreatedSession, type OpenSession, Sessions } from "./Sessions.ts"
import type { SessionToken } from "./SessionToken.ts"

/** Times and caps of new sessions. OWASP's Session Management sheet asks for both timeouts, enforced by the server. */
export interface Policy {
  /** Time without a request after which a session is over. Default: 30 minutes. */
  readonly idleTimeout?: Duration.Input | undefined
  /** Time after which it is over whatever happens. Default: 12 hours. */
  readonly absoluteTimeout?: Duration.Input | undefined
  /** Age at which a token is replaced. Default: 1 hour. */
  readonly renewEvery?: Duration.Input | undefined
  /** Live sessions of one principal; the oldest makes room. Default: 5. */
  readonly maxPerPrincipal?: number | undefined
}

/** What the app keeps in its sessions. */
export interface Options<S extends Schema.Codec<unknown, Schema.Json>> extends Policy {
  readonly data: S
  /** The data of a session that has none yet. */
  readonly initial: S["Type"]
  /** The version of the schema, from 1. Default: 1. */
  readonly version?: number | undefined
}

/** A live session, seen from one request. */
export interface Session<Data> {
  readonly id: SessionId
  /** Who is logged in; null for a visitor. */
  readonly principal: string | null
  /** The record as it was when the handle was made. */
  readonly record: SessionRecord
  /** For work that goes on after the request and must end with the session. */
  readonly lifetime: Lifetime.Lifetime
  /** The data as of the last read or write through this handle. */
  readonly data: Effect.Effect<Data, SessionError>
  /** Forks work that cannot outlive the session. */
  readonly run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<Fiber.Fiber<A, E>, never, R>
  /** Ends the session everywhere; returns when everything it held in this process is released. */
  readonly logout: Effect.Effect<void, SessionError>
}

/** What a session class offers. */
export interface ServiceClass<
  Self,
  Id extends string,
  S extends Schema.Codec<unknown, Schema.Json>
> extends Context.ServiceClass<Self, Id, Session<S["Type"]>> {
  /** The session of a token, held until the scope closes, with `Lifetime.Current`, by which queries find it. */
  readonly open: (token: SessionToken) => Effect.Effect<Context.Context<Self>, SessionError, Sessions | Scope.Scope>
  /** As `open`, held as long as the layer's scope. */
  readonly layer: (token: SessionToken) => Layer.Layer<Self, SessionError, Sessions>
  /** Starts a session for somebody whose identity was just proved. */
  readonly create: (options: {
    readonly principal: string
    readonly device?: Device | undefined
    readonly policy?: Policy | undefined
  }) => Effect.Effect<CreatedSession, SessionError, Sessions>
}

const undecodable = (error: Schema.SchemaError) =>
  new SessionError({ reason: new SessionUndecodable({ problem: error.message }) })

const makeHandle = <S extends Schema.Codec<unknown, Schema.Json>>(
  options: Options<S>,
  sessions: Sessions["Service"],
  { lifetime, record }: OpenSession
): Session<S["Type"]> => {
  const decode = Schema.decodeUnknownEffect(options.data)
  return {
    id: record.id,
    principal: record.principal,
    record,
    lifetime,
    data: Effect.mapError(decode(record.data), undecodable),
    run: (effect) =>
      Effect.uninterruptible(
        Effect.gen(function* () {
          const child = yield* Lifetime.child(lifetime, { kind: "fiber", id: record.id })
          return yield* Lifetime.fork(child)(Effect.onExit(effect, (exit) => Effect.forkDetach(child.end(exit))))
        })
      ),
    logout: sessions.end(record.id)
  }
}

const durationOf = (input: Duration.Input | undefined, fallback: Duration.Input) =>
  Duration.fromInputUnsafe(input ?? fallback)

/**
 * Makes the class of an app's session.
 *
 * **Gotchas**
 *
 * Layers that work for the session go *above* its layer (`Layer.provideMerge`), so that they close before it.
 */
export const Service =
  <Self>() =>
  <const Id extends string, S extends Schema.Codec<unknown, Schema.Json>>(
    id: Id,
    options: Options<S>
  ): ServiceClass<Self, Id, S> => {
    class Tag extends Context.Service<Self, Session<S["Type"]>>()(id) {
      static readonly open = Effect.fn(`${id}.open`)(function* (token: SessionToken) {
        const sessions = yield* Sessions
        const opened = yield* sessions.open(token)
        return Context.make(Tag, makeHandle(options, sessions, opened)).pipe(
          Context.add(Lifetime.Current, opened.lifetime)
        )
      })

      static readonly layer = (token: SessionToken): Layer.Layer<Self, SessionError, Sessions> =>
        Layer.effectContext(Tag.open(token))

      static readonly create: ServiceClass<Self, Id, S>["create"] = ({ device, policy, principal }) =>
        Effect.gen(function* () {
          const sessions = yield* Sessions
          const data = yield* Effect.mapError(Schema.encodeEffect(options.data)(options.initial), undecodable)
          return yield* sessions.create({
            principal,
            data,
            dataVersion: options.version ?? 1,
            device: device ?? {},
            idleTimeout: durationOf(policy?.idleTimeout ?? options.idleTimeout, "30 minutes"),
            absoluteTimeout: durationOf(policy?.absoluteTimeout ?? options.absoluteTimeout, "12 hours"),
            renewEvery: durationOf(policy?.renewEvery ?? options.renewEvery, "1 hour"),
            maxPerPrincipal: policy?.maxPerPrincipal ?? options.maxPerPrincipal ?? 5
          })
        })
    }
    return Tag
  }
