/**
 * What a handle knows of its session, and how it comes to know it. See `SessionEngine`.
 *
 * It lives as long as its handle: it asks the store for nothing until somebody asks it, then loads the session once and holds it
 * here until the handle's scope closes.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as Lifetime from "../../lifetime/Lifetime.ts"
import * as SessionAudit from "../SessionAudit.ts"
import type { SessionError } from "../SessionError.ts"
import type { SessionRecord } from "../SessionRecord.ts"
import { type OpenSession, Sessions } from "../Sessions.ts"
import type * as SessionToken from "../SessionToken.ts"
import type { Session, TokenChange } from "./SessionHandle.ts"
import * as SessionLogin from "./SessionLogin.ts"
import {
  isMissing,
  isSuperseded,
  isUnreadable,
  type Live,
  missing,
  type Snapshot,
  type State,
  successorOf,
  tokenOf,
  tooLate
} from "./SessionState.ts"

/** What came with the request, and how to answer. */
export interface Options {
  /** None for somebody without a session. */
  readonly token: Option.Option<SessionToken.SessionToken>
  /** Told of every change of the token that the client has to learn about, in order. Must not fail. */
  readonly onToken?: ((change: TokenChange) => Effect.Effect<void>) | undefined
  /** Whether the client can still learn about a change; asked before one is made. Default: always. */
  readonly canTell?: (() => boolean) | undefined
  /**
   * Told, when the session was loaded, that its token is due; `renew` is the handle's, to be run at once or later. Must not
   * fail. Default: a token is only replaced when somebody runs `renew`.
   */
  readonly onDue?: ((renew: Session<unknown>["renew"]) => Effect.Effect<void>) | undefined
  /** Asked each time the handle is about to hold a session: what that session's end runs and waits for while it is held. */
  readonly onEnd?: (() => Lifetime.Holding["onEnd"]) | undefined
  /** Told before the handle ends its session itself. Must not fail. */
  readonly onEnding?: Effect.Effect<unknown> | undefined
  /** Something was presented that is no token: the client is told to forget it. */
  readonly unreadable?: boolean | undefined
}

type Settled = Exclude<State, { readonly _tag: "Unloaded" }>

/** One for each request that asks: what it can do is made when it is asked for. */
export abstract class SessionReading<Data> {
  readonly config: SessionLogin.Config<Data>
  readonly options: Options
  readonly sessions: Sessions["Service"]
  readonly scope: Scope.Scope
  readonly audit: SessionAudit.SessionAudit
  readonly turns = Semaphore.makeUnsafe(1)
  state: State
  /** The record whose problem was told. */
  told: SessionRecord | undefined = undefined

  constructor(config: SessionLogin.Config<Data>, context: Context.Context<Sessions | Scope.Scope>, options: Options) {
    this.config = config
    this.options = options
    this.sessions = Context.get(context, Sessions)
    this.scope = Context.get(context, Scope.Scope)
    this.audit = Context.get(context, SessionAudit.SessionAudit)
    this.state = { _tag: "Unloaded", token: options.token }
  }

  abstract get renew(): Session<Data>["renew"]

  canTell(): boolean {
    return this.options.canTell?.() ?? true
  }

  tell(change: TokenChange): Effect.Effect<void> {
    return this.options.onToken?.(change) ?? Effect.void
  }

  tellLive(live: Live): Effect.Effect<void> {
    return this.tell(Option.some(tokenOf(live)))
  }

  // A superseded token is left to the client: another response has just brought it the next one.
  refused(refusal: SessionAudit.Refusal): Effect.Effect<void> {
    return Effect.andThen(
      this.audit.note({ _tag: "Refused", reason: refusal }),
      refusal === "SessionSuperseded" ? Effect.void : this.tell(Option.none())
    )
  }

  /** The store says that the session is over: it stays so for this handle. */
  found(error: SessionError): Effect.Effect<never, SessionError> {
    const refusal = SessionLogin.refusalOf(error)
    if (refusal === undefined) return Effect.fail(error)
    this.state = { _tag: "Ended", error }
    return Effect.andThen(this.refused(refusal), Effect.fail(error))
  }

  /** As `found`, unless the handle has another session, or another token of it, by now: it may be used by several fibers. */
  orFound(of: Live) {
    return Effect.catch((error: SessionError) =>
      this.state._tag === "Live" && this.state.token !== of.token ? Effect.fail(error) : this.found(error)
    )
  }

  // A successor that there is not was none: a login took the token's place.
  withToken<A>(live: Live, use: (token: SessionToken.SessionToken) => Effect.Effect<A, SessionError>) {
    return Effect.catchIf(use(live.token), isSuperseded, (error) => {
      const successor = successorOf(live)
      if (successor === undefined) return Effect.fail(error)
      return Effect.catchIf(use(successor), isMissing, () => Effect.fail(error))
    })
  }

  /** Changes the token, if the client can learn about it. */
  changing<A>(change: () => Effect.Effect<A, SessionError>) {
    return this.turns.withPermit(
      Effect.uninterruptible(Effect.suspend(() => (this.canTell() ? change() : Effect.fail(tooLate))))
    )
  }

  private loaded({ lifetime, record }: OpenSession, token: SessionToken.SessionToken) {
    this.state = { _tag: "Live", token, successor: undefined, lifetime, record }
    return Effect.succeed(record.renewalNonce !== null)
  }

  private notLoaded(error: SessionError): Effect.Effect<boolean, SessionError> {
    const refusal = SessionLogin.refusalOf(error)
    if (refusal === undefined) return Effect.andThen(SessionLogin.warn(error), Effect.fail(error))
    this.state = { _tag: "Visitor", error }
    return Effect.as(this.refused(refusal), false)
  }

  /** Loads the session, if nobody has meanwhile, and tells whether its token is due. */
  private load(): Effect.Effect<boolean, SessionError> {
    if (this.state._tag !== "Unloaded") return Effect.succeed(false)
    const { token } = this.state
    if (Option.isSome(token)) {
      const onSuccess = (opened: OpenSession) => this.loaded(opened, token.value)
      const onFailure = (error: SessionError) => this.notLoaded(error)
      return Effect.matchEffect(Scope.provide(this.sessions.open(token.value, this.options.onEnd?.()), this.scope), {
        onSuccess,
        onFailure
      })
    }
    this.state = { _tag: "Visitor", error: missing }
    return Effect.as(this.options.unreadable === true ? this.refused("SessionMissing") : Effect.void, false)
  }

  /** What is known of the session, which is loaded if it was not. */
  get settle(): Effect.Effect<Settled, SessionError> {
    return Effect.suspend(() => this.settled())
  }

  private settled(): Effect.Effect<Settled, SessionError> {
    if (this.state._tag !== "Unloaded") return Effect.succeed(this.state)
    return Effect.flatMap(this.turns.withPermit(Effect.suspend(() => this.load())), (isDue) => {
      const told = isDue ? this.options.onDue?.(this.renew) : undefined
      return told === undefined ? this.settled() : Effect.flatMap(told, () => this.settled())
    })
  }

  get required(): Effect.Effect<Live, SessionError> {
    return Effect.flatMap(this.settle, (known) =>
      known._tag === "Live" ? Effect.succeed(known) : Effect.fail(known.error)
    )
  }

  private tellProblem(record: SessionRecord, problem: string | undefined): Effect.Effect<void> {
    if (problem === undefined || this.told === record) return Effect.void
    this.told = record
    return this.audit.note({ _tag: "Undecodable", session: record.id, problem })
  }

  get snapshot(): Effect.Effect<Snapshot<Data>, SessionError> {
    return Effect.flatMap(this.settle, (known): Effect.Effect<Snapshot<Data>, SessionError> => {
      const { codec } = this.config
      if (known._tag === "Ended") return Effect.fail(known.error)
      if (known._tag === "Visitor")
        return Effect.map(codec.initial, (read) => ({ ...read, data: read.value, version: 0, session: undefined }))
      const { record } = known
      const unread = (error: SessionError) => this.tellProblem(record, isUnreadable(error) ? error.message : undefined)
      return Effect.flatMap(Effect.tapError(codec.read(record), unread), (read) =>
        Effect.as(this.tellProblem(record, read.problem), {
          ...read,
          data: read.value,
          version: record.version,
          session: record.id
        })
      )
    })
  }
}
