/**
 * The session calls of the HTTP API: schemas only, shared by server, client and documentation.
 */
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import { isTooDeep, maxDepth } from "../session/SessionData.ts"
import { SessionId } from "../session/SessionId.ts"
import { about, Timestamp } from "./internal/Wire.ts"
import { ExactJson } from "./ExactJson.ts"
import * as Preconditions from "./Preconditions.ts"
import * as Problem from "./Problem.ts"
import { OriginRefused } from "./SameOrigin.ts"
import * as QueryProblem from "./QueryProblem.ts"
import * as SessionProblem from "./SessionProblem.ts"

/** A session as its owner sees it. */
export const SessionInfo = Schema.Struct({
  id: SessionId,
  principal: Schema.String,
  createdAt: Timestamp,
  /** Not enforced before this moment; every request moves it on. */
  idleExpiresAt: Timestamp,
  /** The session is over at this moment, whatever happens. */
  expiresAt: Timestamp
})
export type SessionInfo = typeof SessionInfo.Type

const isBytes = (most: number) =>
  Schema.makeFilter((text: string) => new TextEncoder().encode(text).length <= most || `Expected at most ${most} bytes`)

/** User name and password; a password has at most 1,024 bytes. */
export const Credentials = Schema.Struct({
  username: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(128)),
  password: Schema.String.check(Schema.isMinLength(1), isBytes(1024))
})

/** Starts a session and sets its cookie. */
export const login = HttpApiEndpoint.post("login", "/login", {
  payload: Credentials,
  success: SessionInfo,
  error: [
    SessionProblem.InvalidCredentials,
    SessionProblem.TooManyLogins,
    SessionProblem.SessionRevoked,
    SessionProblem.SessionsUnavailable,
    OriginRefused,
    ...Problem.body
  ]
}).annotateMerge(
  about("Log in", "Starts a session and sets its cookie. A name has at most 128 UTF-16 units, a password 1,024 bytes.")
)

/**
 * Ends the session, if there is one, and removes the cookie; answers after everything it held was released. 401 where the
 * session goes on under a newer cookie, which another answer has brought: then ask again with that one.
 */
export const logout = HttpApiEndpoint.post("logout", "/logout", {
  success: HttpApiSchema.NoContent,
  error: [SessionProblem.SessionMissing, SessionProblem.SessionsUnavailable, OriginRefused]
}).annotateMerge(
  about(
    "Log out",
    "Ends the session, if there is one, and removes the cookie. Answers after everything it held was released. 401 where the session goes on under a newer cookie, which another answer has brought: then ask again with that one."
  )
)

/** The session of the cookie. Needs a session. */
export const current = HttpApiEndpoint.get("current", "/session", { success: SessionInfo }).annotateMerge(
  about("The session", "The session of the cookie: whose it is, and when it is over.")
)

/** What is told of a session: it, or why it is over. */
export const SessionEvent = Schema.Union([
  Schema.Struct({
    /** The moment until which it lives without a request, in milliseconds. */
    id: Schema.String,
    event: Schema.Literal("session"),
    data: Schema.fromJsonString(SessionInfo)
  }),
  Schema.Struct({
    id: Schema.String,
    event: Schema.Literal("ended"),
    data: Schema.fromJsonString(Schema.Struct({ reason: Schema.Literals(["SessionExpired", "SessionRevoked"]) }))
  })
])

/** The session now, whenever its times change, and its end. Needs a session; listening is no activity of it. */
export const events = HttpApiEndpoint.get("events", "/session/events", {
  success: HttpApiSchema.StreamSse({ events: SessionEvent }),
  error: QueryProblem.TooManyStreams
}).annotateMerge(
  about(
    "Watch the session",
    "Server-sent events: the session as it is, again when its times change, and its end with the reason. Listening is no activity: the session ends on time. Every stream begins with the session as it is, so Last-Event-ID says nothing here. A stream that ends without the event `ended` says nothing of the session: ask again."
  )
)

/** The client's own data: a JSON object of up to 64 KiB, at most {@link maxDepth} levels deep. */
export const Data = Schema.Record(Schema.String, Schema.Json).check(
  Schema.makeFilter((data) => !isTooDeep(data) || `Expected at most ${maxDepth} levels`)
)

/** The data and its version, to be sent back as `If-Match`. */
const Versioned = HttpApiSchema.WithHeaders(Data, { etag: Schema.String })

/** The session's data. Needs a session, as do all of the following. */
export const data = HttpApiEndpoint.get("data", "/session/data", { success: Versioned }).annotateMerge(
  about("Read the session's data", "A JSON object of the client's own. ETag is its version.")
)

/**
 * Changes the session's data by a JSON merge patch (RFC 7396); parallel patches all take effect. With `If-Match` it changes
 * that version only.
 */
export const patchData = HttpApiEndpoint.patch("patchData", "/session/data", {
  headers: { "if-match": Schema.optionalKey(Schema.String) },
  payload: [Data, Data.pipe(HttpApiSchema.asJson({ contentType: "application/merge-patch+json" }))],
  success: Versioned,
  error: [...SessionProblem.changing, OriginRefused, ...Problem.body]
})
  .middleware(ExactJson)
  .annotate(Preconditions.Versioned, true)
  .annotateMerge(
    about(
      "Change the session's data",
      "A JSON merge patch (RFC 7396): what is sent is what changes, and null removes. Parallel patches all take effect. With If-Match the patch changes that version only. A number that JavaScript cannot hold as it is, and a name that is there twice, are refused."
    )
  )

/** Replaces the session's data if it still has the version of `If-Match`, an `ETag` of ours; `*` replaces any. */
export const putData = HttpApiEndpoint.put("putData", "/session/data", {
  headers: { "if-match": Schema.optionalKey(Schema.String) },
  payload: Data,
  success: Versioned,
  error: [SessionProblem.PreconditionRequired, ...SessionProblem.changing, OriginRefused, ...Problem.body]
})
  .middleware(ExactJson)
  .annotate(Preconditions.Versioned, true)
  .annotateMerge(
    about(
      "Replace the session's data",
      "Replaces the data if it still has the version of If-Match, an ETag of ours; * replaces any. Refuses what PATCH refuses."
    )
  )

/** One of the caller's own sessions. */
export const DeviceInfo = Schema.Struct({
  id: SessionId,
  /** Whether it is the session of this request. */
  current: Schema.Boolean,
  createdAt: Timestamp,
  /** The last request of the session, at most a minute old. */
  lastSeenAt: Timestamp,
  expiresAt: Timestamp,
  /** Where the login came from; null where that is not known. */
  ip: Schema.NullOr(Schema.String),
  /** What the client said that it is. */
  userAgent: Schema.NullOr(Schema.String)
})
export type DeviceInfo = typeof DeviceInfo.Type

/** The caller's live sessions, the newest first. */
export const devices = HttpApiEndpoint.get("devices", "/sessions", { success: Schema.Array(DeviceInfo) }).annotateMerge(
  about("One's own sessions", "The caller's live sessions, the newest first.")
)

/** Ends one of the caller's sessions; answers after everything that it held on this instance was released. */
export const end = HttpApiEndpoint.delete("end", "/sessions/:id", {
  params: { id: Schema.String },
  success: HttpApiSchema.NoContent,
  error: [SessionProblem.SessionNotFound, Problem.NotFound, OriginRefused]
}).annotateMerge(
  about("End a session of one's own", "Answers after everything that the session held on this instance was released.")
)

/** Ends all of the caller's sessions but this one, as `end` does. */
export const endOthers = HttpApiEndpoint.delete("endOthers", "/sessions", {
  success: HttpApiSchema.NoContent,
  error: OriginRefused
}).annotateMerge(
  about("End all other sessions of one's own", "All but that of the request. Answers as for a single one.")
)
