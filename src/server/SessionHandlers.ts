/**
 * What the session calls do: the handle of the request does it, and the cookie follows the handle.
 */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Preconditions from "../http/Preconditions.ts"
import * as Problem from "../http/Problem.ts"
import type { Policy, SessionDevice } from "../session/Session.ts"
import type * as SessionApi from "../http/SessionApi.ts"
import type { SessionError } from "../session/SessionError.ts"
import { SessionId } from "../session/SessionId.ts"
import * as SessionEvents from "../http/SessionEvents.ts"
import * as SessionProblem from "../http/SessionProblem.ts"
import type { Device } from "../session/SessionRecord.ts"
import { Sessions } from "../session/Sessions.ts"
import * as Answers from "./Answers.ts"
import * as ClientAddress from "./ClientAddress.ts"
import { Draining } from "./Draining.ts"
import { HoldfastApi } from "./HoldfastApi.ts"
import * as JsonMergePatch from "./JsonMergePatch.ts"
import * as LoginAudit from "./LoginAudit.ts"
import { Logins } from "./Logins.ts"
import { ServiceSession } from "./ServiceSession.ts"
import { Users } from "./Users.ts"

const infoOf = SessionEvents.infoOf

const deviceInfoOf = ({
  createdAt,
  current,
  device,
  expiresAt,
  id,
  lastSeenAt
}: SessionDevice): SessionApi.DeviceInfo => ({
  id,
  current,
  createdAt,
  lastSeenAt,
  expiresAt,
  ip: device.ip ?? null,
  userAgent: device.userAgent ?? null
})

const deviceOf = (request: HttpServerRequest.HttpServerRequest): Device => ({
  ...(request.headers["user-agent"] !== undefined && { userAgent: request.headers["user-agent"].slice(0, 512) }),
  ...Option.match(ClientAddress.of(request), { onNone: () => ({}), onSome: (ip) => ({ ip }) })
})

const addressOf = (request: HttpServerRequest.HttpServerRequest) =>
  Option.getOrElse(ClientAddress.of(request), () => "unknown")

/** Login and logout meet one thing that is worth telling apart: the store does not answer. */
const unavailable = (error: SessionError) =>
  new SessionProblem.SessionsUnavailable({ detail: SessionProblem.from(error).message })

const unknown = new SessionProblem.SessionNotFound({ detail: "GET /sessions lists those that you have." })

const decodeId = Schema.decodeUnknownOption(SessionId)

const etagOf = (version: number) => `"${version}"`

/** The data of the request's session, with the version it has by now. */
const answer = Effect.gen(function* () {
  const { data, version } = yield* (yield* ServiceSession).versioned
  return HttpApiSchema.withHeaders({ body: data, headers: { etag: etagOf(version) } })
})

type Data = typeof SessionApi.Data.Type

/** Changes the data, whatever its version is, or that version only which the request holds for. */
const change = Effect.fnUntraced(
  function* (next: (data: Data) => Data) {
    const session = yield* ServiceSession
    if (!(yield* Preconditions.isConditional)) yield* session.modify(next)
    else {
      const { data, version } = yield* session.versioned
      const refusal = yield* Preconditions.refusal(etagOf(version))
      if (refusal !== undefined) return yield* new SessionProblem.SessionConflict({ detail: refusal })
      yield* session.replace(next(data), { version })
    }
    return yield* answer
  },
  Effect.catchTag("SessionError", (error) => Effect.fail(SessionProblem.fromChange(error)))
)

const putData = (ifMatch: string | undefined, data: Data) =>
  ifMatch === undefined
    ? Effect.fail(
        new SessionProblem.PreconditionRequired({
          detail: "Send the ETag of the data that you replace as If-Match."
        })
      )
    : change(() => data)

const end = Effect.fnUntraced(
  function* (text: string) {
    const id = decodeId(text)
    if (Option.isNone(id)) return yield* unknown
    const session = yield* ServiceSession
    if (!(yield* session.revoke(id.value))) return yield* unknown
  },
  Effect.catchTag("SessionError", (error) => Effect.fail(SessionProblem.from(error)))
)

/** Over {@link Sessions}, {@link Users} and {@link Logins}; the policy is that of new sessions. */
export const layer = (policy: Policy) =>
  HttpApiBuilder.group(
    HoldfastApi,
    "sessions",
    Effect.fnUntraced(function* (handlers) {
      const users = yield* Users
      const logins = yield* Logins
      const sessions = yield* Sessions
      const answers = yield* Answers.Answers
      const draining = yield* Draining
      const audit = yield* LoginAudit.make

      /** Asked before the password is read, so that a revocation meanwhile counts. Not every name can be a principal. */
      const epochOf = (username: string) =>
        Effect.catchIf(
          sessions.epoch(username),
          ({ reason }) => reason._tag === "SessionInvalid",
          () => Effect.succeed(undefined)
        )

      const login = Effect.fn("login")(
        function* ({ password, username }: { readonly username: string; readonly password: string }) {
          const request = yield* HttpServerRequest.HttpServerRequest
          const checked = yield* logins.attempt(
            { username, ...ClientAddress.clientOf(request) },
            Effect.all([epochOf(username), users.find(username)]),
            ([epoch, isTheirs]) =>
              Effect.map(
                isTheirs(Redacted.make(password)),
                Option.map(({ name }) => ({ name, epoch }))
              )
          )
          if (Option.isNone(checked)) {
            yield* audit.failed(username, addressOf(request))
            return yield* new SessionProblem.InvalidCredentials({
              detail: "Check both; the service does not say which of them it was."
            })
          }
          const { epoch, name } = checked.value
          const session = yield* ServiceSession
          const info = infoOf(yield* session.authenticate(name, { ...deviceOf(request), policy, epoch }))
          yield* audit.count("Succeeded")
          return info
        },
        Effect.catchTag("LoginsRefused", ({ because, message, retryAfterSeconds }) =>
          Effect.andThen(
            Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
              Effect.andThen(audit.refused(because, addressOf(request)), Problem.retryAfter(retryAfterSeconds))
            ),
            Effect.fail(new SessionProblem.TooManyLogins({ detail: message, retryAfterSeconds }))
          )
        ),
        Effect.catchTag("SessionError", (error) =>
          Effect.andThen(
            audit.count(error.reason._tag === "SessionRevoked" ? error.reason._tag : "Unavailable"),
            Effect.fail(
              error.reason._tag === "SessionRevoked"
                ? new SessionProblem.SessionRevoked({ detail: error.message })
                : unavailable(error)
            )
          )
        ),
        Effect.catchTag(["UsersError", "FailuresUnavailable"], (error) =>
          Effect.andThen(
            audit.count("Unavailable"),
            Effect.fail(new SessionProblem.SessionsUnavailable({ detail: error.message }))
          )
        )
      )

      const logout = Effect.flatMap(ServiceSession, (session) => session.logout).pipe(
        Effect.mapError((error) =>
          error.reason._tag === "SessionSuperseded"
            ? new SessionProblem.SessionMissing({ detail: error.message })
            : unavailable(error)
        )
      )

      const events = Effect.gen(function* () {
        const own = yield* ServiceSession
        const principal = yield* Effect.mapError(own.principal, SessionProblem.from)
        yield* answers.stream(principal ?? "")
        return yield* Effect.mapError(SessionEvents.response(own, { end: draining.begun }), SessionProblem.from)
      })

      return handlers
        .handleRaw("events", () => events)
        .handleAll({
          login: ({ payload }) => login(payload),
          logout: () => logout,
          current: Effect.fnUntraced(function* () {
            const { record } = yield* ServiceSession
            return infoOf(yield* Effect.mapError(record, SessionProblem.from))
          }),
          data: () => Effect.mapError(answer, SessionProblem.from),
          patchData: ({ payload }) => change((data) => JsonMergePatch.apply(data, payload)),
          putData: ({ headers, payload }) => putData(headers["if-match"], payload),
          devices: Effect.fnUntraced(function* () {
            const session = yield* ServiceSession
            return (yield* Effect.mapError(session.devices, SessionProblem.from)).map(deviceInfoOf)
          }),
          end: ({ params }) => end(params.id),
          endOthers: Effect.fnUntraced(function* () {
            const session = yield* ServiceSession
            yield* Effect.mapError(session.revokeOthers, SessionProblem.from)
          })
        })
    })
  )
