/**
 * The events of a session for the browser that has it: the session as it is, again when its times change, and its end with the
 * reason. `SessionState` of the browser listens to them.
 *
 * A stream lasts until the session is over, the client is gone or `end` says so; it stands in the ledger under the session, as
 * `event stream`. It is no activity of the session, which ends on time although somebody listens.
 *
 * **When to use**
 *
 * {@link layer} gives an app of routes both calls that a browser needs. {@link response} is for a handler of your own.
 *
 * **Details**
 *
 * | event     | data                                                        |
 * | --------- | ----------------------------------------------------------- |
 * | `session` | as `GET /session` answers                                   |
 * | `ended`   | `{"reason": "SessionExpired"}` or `{"reason": "SessionRevoked"}` |
 *
 * The end is told at once where it happens, on other instances as soon as they hear of it. The times are those of the store, which
 * is asked once in a touch interval, and when the session is due to end. A store that cannot be reached ends nothing. A stream that
 * ends without `ended` says nothing of the session.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type * as Types from "effect/Types"
import * as Ledger from "../lifetime/Ledger.ts"
import type { ServiceClass, Session } from "../session/Session.ts"
import type { SessionError } from "../session/SessionError.ts"
import type { SessionRecord } from "../session/SessionRecord.ts"
import { Sessions } from "../session/Sessions.ts"
import * as SessionTimes from "../session/SessionTimes.ts"
import * as EventStream from "./internal/EventStream.ts"
import { SessionNews } from "./internal/SessionNews.ts"
import { SessionInfo } from "./SessionApi.ts"
import * as SessionCookie from "./SessionCookie.ts"
import * as SessionMiddleware from "./SessionMiddleware.ts"

/** Why a session is over. */
export type Reason = "SessionExpired" | "SessionRevoked"

/** What is told. */
export type Event =
  { readonly _tag: "Session"; readonly record: SessionRecord } | { readonly _tag: "Ended"; readonly reason: Reason }

/** How a stream ends before the session does. */
export interface Options {
  /** Ends the stream, and says nothing about the session: such as a signal that the service is about to stop. Default: never. */
  readonly end?: Effect.Effect<void> | undefined
}

/** A session as its owner sees it. */
export const infoOf = ({ createdAt, expiresAt, id, idleExpiresAt, principal }: SessionRecord): SessionInfo => ({
  id,
  principal: principal ?? "",
  createdAt,
  idleExpiresAt: DateTime.min(idleExpiresAt, expiresAt),
  expiresAt
})

const encodeInfo = Schema.encodeSync(SessionInfo)

/** A session as its owner sees it, as JSON: what `GET /session` answers, and a login should. */
export const encode = (record: SessionRecord): typeof SessionInfo.Encoded => encodeInfo(infoOf(record))

/** Without a pause: the store is asked no more often than this, in milliseconds. */
const soonest = 1000

const dueAt = ({ expiresAt, idleExpiresAt }: SessionRecord): number =>
  DateTime.toEpochMillis(DateTime.min(idleExpiresAt, expiresAt))

/** When to ask the store again, in milliseconds: a session that is overdue is asked for less and less often. */
const delayOf = (record: SessionRecord, now: number): number => {
  const every = SessionTimes.touchInterval(DateTime.distance(record.lastSeenAt, record.idleExpiresAt))
  return Math.min(Math.max(soonest, Duration.toMillis(every)), Math.max(soonest, Math.abs(dueAt(record) - now)))
}

const isSame = (a: SessionRecord, b: SessionRecord): boolean =>
  a.principal === b.principal &&
  DateTime.Equivalence(a.createdAt, b.createdAt) &&
  DateTime.Equivalence(a.idleExpiresAt, b.idleExpiresAt) &&
  DateTime.Equivalence(a.expiresAt, b.expiresAt)

const nothing: Effect.Effect<Queue.Dequeue<SessionRecord>> = Queue.sliding<SessionRecord>(1)

/** The events of a session from now on, as it is first. The request of the session goes on when the session ends. */
export const watch = Effect.fnUntraced(function* <Data>(
  session: Session<Data>,
  { end = Effect.never }: Options = {}
): Effect.fn.Return<Stream.Stream<Event>, SessionError, HttpServerRequest.HttpServerRequest | Sessions> {
  const sessions = yield* Sessions
  const news = yield* Effect.serviceOption(SessionNews)
  const token = SessionCookie.read(yield* SessionCookie.Current, yield* HttpServerRequest.HttpServerRequest)
  const record = yield* session.record
  const lifetime = yield* session.lifetime
  yield* SessionMiddleware.letGo(session)
  let latest = record

  /** The session as the store has it; nothing once it is over. Nobody's activity. */
  const asked =
    record.principal === null
      ? Effect.succeed(Option.some(latest))
      : Effect.map(sessions.list(record.principal), (all) =>
          Option.fromUndefinedOr(all.find(({ id }) => id === record.id))
        )
  // Whether somebody was logged out is not known while the store is away.
  const known = asked.pipe(Effect.catch(() => Effect.succeed(Option.some(latest))))
  const look = Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.delay(known, Duration.millis(delayOf(latest, now)))
  )

  const heard = Option.match(news, { onNone: () => nothing, onSome: ({ listen }) => listen(record.id) })
  const changes = Stream.unwrap(
    Effect.map(heard, (queue) =>
      Stream.paginate(undefined, () =>
        Effect.map(Effect.raceFirst(Effect.map(Queue.take(queue), Option.some), look), (found) => {
          if (Option.isNone(found)) return [[], Option.none()] as const
          const isNew = !isSame(found.value, latest)
          latest = found.value
          return [isNew ? [found.value] : [], Option.some(undefined)] as const
        })
      )
    )
  )

  /** The store knows. Where it cannot say, the times do. */
  const reason = Effect.gen(function* () {
    const told = Option.isNone(token)
      ? undefined
      : yield* Effect.match(sessions.touch(token.value), {
          onSuccess: () => undefined,
          onFailure: ({ reason }) => reason._tag
        })
    if (told === "SessionExpired" || told === "SessionRevoked") return told
    return dueAt(latest) <= (yield* Clock.currentTimeMillis) ? "SessionExpired" : "SessionRevoked"
  })

  let isStopping = false
  const stopped = Effect.map(end, () => {
    isStopping = true
  })
  const ended = Stream.suspend(() =>
    isStopping ? Stream.empty : Stream.fromEffect(Effect.map(reason, (reason): Event => ({ _tag: "Ended", reason })))
  )
  const told = Stream.concat(Stream.succeed(record), changes).pipe(
    Stream.map((record): Event => ({ _tag: "Session", record })),
    Stream.interruptWhen(Effect.raceFirst(lifetime.ended, stopped)),
    Stream.concat(ended)
  )
  const held = Ledger.hold(
    { kind: "event stream", id: record.id, releaseLimit: "none" },
    Effect.void,
    () => Effect.void
  )
  return Stream.unwrap(Effect.as(Effect.provideService(held, Ledger.Parent, lifetime.entry), told))
})

const sent = (event: Event): EventStream.Event =>
  event._tag === "Session"
    ? {
        id: String(DateTime.toEpochMillis(event.record.idleExpiresAt)),
        event: "session",
        data: JSON.stringify(encode(event.record))
      }
    : { id: "ended", event: "ended", data: JSON.stringify({ reason: event.reason }) }

/** Answers with the events of a session. Fails as `session.record` does where there is none. */
export const response = <Data>(session: Session<Data>, options?: Options) =>
  Effect.map(watch(session, options), (events) => EventStream.response(Stream.map(events, sent)))

/**
 * The two calls that a browser needs to keep step: `GET /session` and `GET /session/events`, or at another path.
 *
 * **Example** (An app's routes)
 *
 * ```ts
 * Layer.mergeAll(routes, SessionEvents.layer(AppSession)).pipe(Layer.provide(Http.layer))
 * ```
 */
export const layer = <Self, Id extends string, S extends Schema.Codec<unknown, Schema.Json>>(
  session: ServiceClass<Self, Id, S>,
  { path = "/session", ...options }: Options & { readonly path?: `/${string}` | undefined } = {}
): Layer.Layer<never, never, HttpRouter.HttpRouter | HttpRouter.Request.From<"Requires", Self> | Sessions> =>
  HttpRouter.use(
    Effect.fnUntraced(function* (router) {
      const sessions = yield* Sessions
      const cookie = yield* SessionCookie.Current
      const current = Effect.flatMap(session, ({ record }) =>
        Effect.flatMap(record, (record) => HttpServerResponse.json(encode(record)))
      )
      const events = Effect.flatMap(session, (own) => response(own, options)).pipe(
        Effect.provideService(Sessions, sessions),
        Effect.provideService(SessionCookie.Current, cookie)
      )
      yield* router.add("GET", path, current)
      yield* router.add("GET", `${path}/events`, events)
    })
  ) as Layer.Layer<never, never, HttpRouter.HttpRouter | HttpRouter.Request.From<"Requires", Self> | Sessions> &
    Types.unhandled
