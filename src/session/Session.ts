/**
 * An app's session as a service: typed data, somebody's identity, and a lifetime to tie work to.
 *
 * A handle lives as long as the scope that its layer is built in, usually a request. The session itself goes on in the
 * store; work forked with `session.run` or built on `session.lifetime` goes on until the session ends, and no longer. After
 * the end nothing brings it back.
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
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Lifetime from "../lifetime/Lifetime.ts"
import * as SessionAudit from "./SessionAudit.ts"
import * as SessionData from "./SessionData.ts"
import * as SessionEngine from "./internal/SessionEngine.ts"
import type { SessionError } from "./SessionError.ts"
import type { Policy, Session } from "./internal/SessionHandle.ts"
import * as SessionLogin from "./internal/SessionLogin.ts"
import type { Device } from "./SessionRecord.ts"
import { type CreatedSession, Sessions } from "./Sessions.ts"
import type { SessionToken } from "./SessionToken.ts"

export type { Expiry, Login, Policy, Session, SessionDevice, TokenChange, Versioned } from "./internal/SessionHandle.ts"

/** What the app keeps in its sessions, and how long they live. */
export interface Options<S extends Schema.Codec<unknown, Schema.Json>> extends SessionData.Options<S>, Policy {}

/** What a session class offers. */
export interface ServiceClass<
  Self,
  Id extends string,
  S extends Schema.Codec<unknown, Schema.Json>
> extends Context.ServiceClass<Self, Id, Session<S["Type"]>> {
  /** A handle that asks the store for nothing until it is used, for the current scope. Surfaces make one per request. */
  readonly handle: (options: SessionEngine.Options) => Effect.Effect<Session<S["Type"]>, never, Sessions | Scope.Scope>
  /** As `handle`, at once, for the scope in the context. */
  readonly handleUnsafe: (
    options: SessionEngine.Options,
    context: Context.Context<Sessions | Scope.Scope>
  ) => Session<S["Type"]>
  /**
   * The session of a token, loaded and held until the scope closes, with `Lifetime.Current`, by which queries and leases find
   * it.
   * Fails with the reason where there is none.
   */
  readonly open: (token: SessionToken) => Effect.Effect<Context.Context<Self>, SessionError, Sessions | Scope.Scope>
  /** As `open`, held as long as the layer's scope. */
  readonly layer: (token: SessionToken) => Layer.Layer<Self, SessionError, Sessions>
  /** Starts a session for somebody whose identity was just proved, or by an operator on their behalf. */
  readonly create: (options: {
    readonly principal: string
    /** See `Login.actor`. */
    readonly actor?: string | undefined
    readonly device?: Device | undefined
    readonly policy?: Policy | undefined
  }) => Effect.Effect<CreatedSession, SessionError, Sessions>
}

/** What `Infinity` comes to, so that every store can count it. */
const longest = Duration.days(36_525)
const highestCap = 1_000_000_000

const limitsOf =
  (defaults: Policy): SessionLogin.Config<never>["limits"] =>
  ({ epoch, policy } = {}) => {
    const duration = (name: "idleTimeout" | "absoluteTimeout" | "renewEvery", fallback: Duration.Input) =>
      Duration.min(Duration.fromInputUnsafe(policy?.[name] ?? defaults[name] ?? fallback), longest)
    return {
      idleTimeout: duration("idleTimeout", "30 minutes"),
      absoluteTimeout: duration("absoluteTimeout", "12 hours"),
      renewEvery: duration("renewEvery", "1 hour"),
      maxPerPrincipal: Math.floor(
        Math.min(Math.max(policy?.maxPerPrincipal ?? defaults.maxPerPrincipal ?? 5, 1), highestCap)
      ),
      ...(epoch !== undefined && { epoch })
    }
  }

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
    const config = { codec: SessionData.make(options), limits: limitsOf(options) }

    class Tag extends Context.Service<Self, Session<S["Type"]>>()(id) {
      static readonly handle: ServiceClass<Self, Id, S>["handle"] = (presented) =>
        Effect.contextWith((context) => Effect.succeed(Tag.handleUnsafe(presented, context)))

      static readonly handleUnsafe: ServiceClass<Self, Id, S>["handleUnsafe"] = (presented, context) =>
        SessionEngine.make(config, context, presented)

      static readonly open = Effect.fn(`${id}.open`)(function* (token: SessionToken) {
        const session = yield* Tag.handle({ token: Option.some(token) })
        return Context.make(Tag, session).pipe(Context.add(Lifetime.Current, Effect.succeed(yield* session.lifetime)))
      })

      static readonly layer = (token: SessionToken): Layer.Layer<Self, SessionError, Sessions> =>
        Layer.effectContext(Tag.open(token))

      static readonly create: ServiceClass<Self, Id, S>["create"] = Effect.fnUntraced(function* (login) {
        const sessions = yield* Sessions
        const audit = yield* SessionAudit.SessionAudit
        const created = yield* SessionLogin.create(config, sessions, audit, login)
        yield* created.roomMade
        return created
      })
    }
    return Tag
  }
