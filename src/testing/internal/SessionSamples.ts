/** Sessions, logins and tokens to try a store with. */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { createHash } from "node:crypto"
import type { SessionError } from "../../session/SessionError.ts"
import type * as SessionStore from "../../session/SessionStore.ts"
import * as SessionToken from "../../session/SessionToken.ts"

export const newToken = () => SessionToken.hash(SessionToken.make())

export const session = (options: Partial<SessionStore.NewSession> = {}): SessionStore.NewSession => ({
  token: newToken(),
  principal: "alice",
  data: { cart: ["apple"] },
  dataVersion: 1,
  device: { userAgent: "test", ip: "192.0.2.1" },
  idleTimeout: Duration.minutes(30),
  absoluteTimeout: Duration.hours(12),
  renewEvery: Duration.hours(1),
  maxPerPrincipal: 5,
  ...options
})

/** A new session. */
export const create = (store: SessionStore.SessionStore["Service"], wanted: SessionStore.NewSession) =>
  Effect.map(store.create(wanted), ({ record }) => record)

/** A login in the session of a token. */
export const authentication = (
  options: Partial<SessionStore.Authentication> & Pick<SessionStore.Authentication, "token">
): SessionStore.Authentication => ({
  next: newToken(),
  principal: "alice",
  device: { userAgent: "test", ip: "192.0.2.1" },
  idleTimeout: Duration.minutes(30),
  absoluteTimeout: Duration.hours(12),
  renewEvery: Duration.hours(1),
  maxPerPrincipal: 5,
  ...options
})

/** What everybody who presents the token makes of it. */
export const nextOf = (token: SessionToken.TokenHash, nonce: string | null) =>
  SessionToken.TokenHash.make(createHash("sha256").update(`${token} ${nonce}`).digest("hex"))

/** What came of an operation: `ok`, or the reason. */
export const outcome = <A>(effect: Effect.Effect<A, SessionError>) =>
  Effect.map(
    Effect.result(effect),
    Result.match({ onFailure: ({ reason }) => reason._tag, onSuccess: () => "ok" as const })
  )

export const all = <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) =>
  Effect.all(effects, { concurrency: "unbounded" })

export const times = <A>(count: number, make: (index: number) => A) =>
  Array.from({ length: count }, (_, index) => make(index))

/** Milliseconds from the creation to the last activity that was written. */
export const sinceCreation = ({ createdAt, lastSeenAt }: { createdAt: DateTime.Utc; lastSeenAt: DateTime.Utc }) =>
  DateTime.toEpochMillis(lastSeenAt) - DateTime.toEpochMillis(createdAt)
