/**
 * Reads what the scripts of `RedisSessionStore` answer. A session that cannot be read is that session's failure and nobody
 * else's.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import {
  type SessionError,
  SessionError as Failure,
  SessionsUnavailable,
  SessionTokenTaken
} from "../../session/SessionError.ts"
import { SessionId } from "../../session/SessionId.ts"
import type { Remembered } from "../../session/internal/SessionMemory.ts"
import type { SessionRecord } from "../../session/SessionRecord.ts"
import * as SessionRow from "../../session/internal/SessionRow.ts"
import type { Login, Pruned } from "../../session/SessionStore.ts"

/** The store did not answer, or not what it should. */
export const unavailable = (cause: unknown): SessionError => new Failure({ reason: new SessionsUnavailable({ cause }) })

/**
 * What the server says, without what it was told: an unknown command is answered with its arguments, and those are hashes of
 * tokens and people's data.
 */
const withoutArguments = (message: string) =>
  message
    .replace(/,? with args beginning with:[^]*/i, "")
    .replace(/[0-9a-f]{40,}/gi, "…")
    .slice(0, 1000)

/** A failure of the connection's or of the server's as the store reports it. */
export const failed = (error: { readonly cause?: unknown }): SessionError => {
  const { cause } = error
  const message = cause instanceof Error ? cause.message : String(cause ?? error)
  return unavailable(new Error(withoutArguments(message)))
}

/** A session as it is remembered: with its stamp, and until when by the server's clock that alone vouches for it. */
export interface Known extends Remembered {
  readonly until: number
}

const isList = (reply: unknown): reply is ReadonlyArray<unknown> => Array.isArray(reply)
const digits = /^\d{1,16}$/
const signed = /^-?\d{1,16}$/

/** Digits as a number; whatever else it is stays, and is found to be no number. */
const count = (value: unknown) => (typeof value === "string" && digits.test(value) ? Number(value) : value)
/** The same for a version of data, which is below zero where something is in quarantine beside it. */
const dataVersion = (value: unknown) => (typeof value === "string" && signed.test(value) ? Number(value) : value)
const moment = (value: unknown) => (typeof value === "number" ? new Date(value) : value)

/** The device and the data, which are a line each. */
const linesOf = (content: unknown): readonly [device: string | undefined, data: string | undefined] => {
  const at = typeof content === "string" ? content.indexOf("\n") : -1
  return typeof content === "string" && at >= 0 ? [content.slice(0, at), content.slice(at + 1)] : [undefined, undefined]
}

const nothing = (text: string | undefined) => (text === "" ? null : text)

/**
 * The row of a live session that came in one piece, in the order of a script's row: its fields with a NUL between them, what it
 * holds at the end. Whatever came otherwise stays as it is.
 */
const unpacked = (reply: unknown): unknown => {
  if (typeof reply !== "string") return reply
  const parts = reply.split("\0")
  if (parts.length !== 14 || parts[0] !== "live") return reply
  const [state, id, principal, dataVersion, version, createdAt, lastSeenAt, idle, expiresAt, nonce, actor] = parts
  const [stamp, until, content] = parts.slice(11)
  return [
    state,
    id,
    nothing(principal),
    content,
    dataVersion,
    version,
    createdAt,
    lastSeenAt,
    idle,
    expiresAt,
    nothing(nonce),
    nothing(actor),
    stamp,
    until
  ]
}

/** The session in a row of a script, behind the state that it begins with. */
const record = (row: ReadonlyArray<unknown>, open: SessionRow.Open): Result.Result<SessionRecord, SessionError> => {
  const [device, data] = linesOf(row[3])
  const lastSeenAt = count(row[7])
  const idle = count(row[8])
  const expiresAt = count(row[9])
  const known = typeof lastSeenAt === "number" && typeof idle === "number" && typeof expiresAt === "number"
  const columns = [
    row[1],
    row[2],
    data,
    dataVersion(row[4]),
    count(row[5]),
    device,
    moment(count(row[6])),
    moment(lastSeenAt),
    moment(known ? Math.min(lastSeenAt + idle, expiresAt) : idle),
    moment(expiresAt),
    row[10],
    row[11]
  ]
  return SessionRow.record(columns, open)
}

/** Whose token it is, where it is a session's that lives or cannot be read. */
export const sessionOf = (reply: unknown): string | undefined =>
  isList(reply) && (reply[0] === "live" || reply[0] === "broken") && typeof reply[1] === "string" ? reply[1] : undefined

const inUse = Result.fail(new Failure({ reason: new SessionTokenTaken() }))

/** The session of a row, or why there is none. */
export const session = (reply: unknown, open: SessionRow.Open): Result.Result<SessionRecord, SessionError> => {
  if (!isList(reply)) return Result.fail(SessionRow.unexpected("the answer of the server"))
  switch (reply[0]) {
    case "live":
      return record(reply, open)
    case "broken": {
      const read = record(reply, open)
      return Result.isFailure(read) ? read : Result.fail(SessionRow.unexpected(`session ${read.success.id}`))
    }
    case "conflict":
      return Result.fail(SessionRow.standing(["live"]))
    case "in use":
      return inUse
    case "failed":
      return Result.fail(failed({ cause: reply[1] }))
    default:
      return Result.fail(SessionRow.standing(reply))
  }
}

/** Where only the state counts. */
const unopened: SessionRow.Open = (_, kept) => Result.succeed(kept)

/** Whether a session is live, or why not, where the row holds nothing else. */
export const live = (reply: unknown): Result.Result<void, SessionError> => {
  const state = isList(reply) ? reply[0] : undefined
  if (state === "live") return Result.void
  return state === "broken"
    ? Result.fail(SessionRow.unexpected("the session of a token"))
    : Result.map(session(reply, unopened), () => undefined)
}

/** A session in a list: none if it is over, a failure if it cannot be read. */
export const listed = (
  reply: unknown,
  open: SessionRow.Open
): Result.Result<SessionRecord, SessionError> | undefined => (isOver(reply) ? undefined : session(reply, open))

/** Whether a session is over. What cannot be told is not. */
export const isOver = (reply: unknown): boolean => {
  const state = isList(reply) ? reply[0] : undefined
  return state === "missing" || state === "expired" || state === "revoked"
}

const decoder = <A, I>(schema: Schema.Codec<A, I>, what: string) => {
  const decode = Schema.decodeUnknownResult(schema)
  return (reply: unknown): Effect.Effect<A, SessionError> =>
    Effect.fromResult(Result.mapError(decode(reply), SessionRow.undecodable(what)))
}
const Digits = Schema.FiniteFromString

/** An array of answers, one for each of what was asked. */
export const answers =
  (asked: number) =>
  (reply: unknown): Effect.Effect<ReadonlyArray<unknown>, SessionError> =>
    isList(reply) && reply.length === asked
      ? Effect.succeed(reply)
      : Effect.fail(SessionRow.unexpected("the answer of the server"))

/** The same where an answer is the row of a session. */
export const rows = (asked: number) => {
  const read = answers(asked)
  return (reply: unknown) => Effect.map(read(reply), (all) => all.map(unpacked))
}

/** The ids of sessions. */
export const ids = decoder(Schema.Array(SessionId), "the ids of sessions")

/**
 * What came of a login: the session and those that made room, or a state. Without a session: so many had to make room that it is
 * to be tried again.
 */
export const login = (
  reply: unknown,
  open: SessionRow.Open
): Effect.Effect<{ readonly record?: SessionRecord; readonly displaced: Login["displaced"] }, SessionError> => {
  if (!isList(reply)) return Effect.fail(SessionRow.unexpected("the answer of the server"))
  if (reply[0] === "more") return Effect.map(ids(reply[1]), (displaced) => ({ displaced }))
  return isList(reply[0])
    ? Effect.all({ record: Effect.fromResult(session(reply[0], open)), displaced: ids(reply[1]) })
    : Effect.flatMap(Effect.fromResult(session(reply, open)), () =>
        Effect.fail(SessionRow.unexpected("the answer of the server"))
      )
}

/** Some of a principal's sessions that were ended, up to which place they are, and whether there may be more. */
export const revokedSome = decoder(
  Schema.Tuple([Schema.String, Schema.Array(SessionId), Schema.Literals([0, 1])]),
  "the ids of sessions"
)

/** Where the next visitors' sessions are, and what there is of these. */
export const visitors = (reply: unknown) =>
  Effect.map(decodeVisitors(reply), ([place, all]) => [place, all.map(unpacked)] as const)
const decodeVisitors = decoder(Schema.Tuple([Schema.String, Schema.Array(Schema.Unknown)]), "the sessions of visitors")

/** What to remember of a live session's row, and the bytes of its data and device; nothing where its token is to be renewed. */
export const remembered = (
  reply: unknown,
  record: SessionRecord
): { readonly known: Known; readonly bytes: number } | undefined => {
  if (!isList(reply) || record.renewalNonce !== null) return undefined
  const [content, stamp, until] = [reply[3], reply[12], count(reply[13])]
  return typeof stamp === "string" && typeof until === "number" && typeof content === "string"
    ? { known: { record, stamp, until }, bytes: content.length }
    : undefined
}

/** Which of these sessions are as they are known: not written since, and nothing due by the server's clock. */
export const confirmed = (known: ReadonlyArray<Known>, reply: ReadonlyArray<unknown>): ReadonlyArray<boolean> => {
  const now = count(reply[0])
  return known.map(({ stamp, until }, index) => typeof now === "number" && now < until && reply[index + 1] === stamp)
}

/** Whether something was done. */
export const isDone = Effect.fnUntraced(function* (reply: unknown) {
  return (yield* decodeDone(reply)) === 1
})
const decodeDone = decoder(Schema.Literals([0, 1]), "the answer of the server")

/** The epoch of a principal; zero when nothing is known of it. */
export const epoch = decoder(Digits, "the epoch of a principal")

const decodeMoment = decoder(Digits, "the time of the server")
/** A moment by the server's clock. */
export const momentOf = (reply: unknown) => Effect.map(decodeMoment(reply), DateTime.makeUnsafe)

const decodeLag = decoder(Digits, "the age of a tombstone")
export const lag = (reply: unknown) => Effect.map(decodeLag(reply), Duration.millis)

const decodePruned = decoder(Schema.Tuple([Schema.Int, Digits, Schema.Literals([0, 1])]), "what was pruned")
/** What was pruned; `way` is how long the answer took, which has to do where the server does not know how long it was at it. */
export const pruned = (reply: unknown, way: Duration.Duration): Effect.Effect<Pruned, SessionError> =>
  Effect.map(decodePruned(reply), ([sessions, micros, more]) => ({
    sessions,
    more: more === 1,
    took: micros > 0 ? Duration.micros(BigInt(micros)) : way
  }))
