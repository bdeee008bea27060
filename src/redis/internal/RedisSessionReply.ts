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
import type { Pruned } from "../../session/SessionStore.ts"

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
const shortId = /^[0-9a-f]{32}$/

/** Digits as a number; whatever else it is stays, and is found to be no number. */
const count = (value: unknown) => (typeof value === "string" && digits.test(value) ? Number(value) : value)
/** The same for what may be below zero: a version of data is where something is in quarantine beside it. */
const difference = (value: unknown) => (typeof value === "string" && signed.test(value) ? Number(value) : value)
const hex = (value: unknown) => {
  const number = Number(`0x${String(value)}`)
  return Number.isNaN(number) ? value : number
}
const sum = (value: unknown, more: unknown) =>
  typeof value === "number" && typeof more === "number" ? value + more : undefined
const moment = (value: unknown) => (typeof value === "number" ? new Date(value) : value)

/** A session's id as the scripts know it. */
export const short = (id: SessionId): string =>
  id.slice(2, 10) + id.slice(11, 15) + id.slice(16, 20) + id.slice(21, 25) + id.slice(26)

/** An id of the scripts' as everybody knows it; whatever else it is stays. */
const long = (id: unknown) =>
  typeof id === "string" && shortId.test(id)
    ? `s_${id.slice(0, 8)}-${id.slice(8, 12)}-${id.slice(12, 16)}-${id.slice(16, 20)}-${id.slice(20)}`
    : id

const nothing = (text: string | undefined) => (text === "" ? null : text)

/** A row of a session: its state and, of one that there is, its columns, its stamp, and until when it need only be confirmed. */
export type Row = ReadonlyArray<unknown>
const [stampAt, untilAt] = [13, 14]

/**
 * The row in two texts: state, id, nonce and until when it need only be confirmed, a NUL between them, and what is kept of
 * the session, see `RedisSessionLua`. Where there is none, the first is its state, or what failed.
 */
const rowOf = (told: unknown, kept: unknown): Row => {
  if (typeof told !== "string") return []
  const [state, id, nonce, until] = told.split("\0", 4)
  if (until === undefined || typeof kept !== "string") return [state, id]
  const atPrincipal = kept.indexOf("\0")
  const atActor = kept.indexOf("\0", atPrincipal + 1)
  const atDevice = kept.indexOf("\0", atActor + 1)
  const atData = kept.indexOf("\n", atDevice + 1)
  if (atPrincipal < 0 || atActor < 0 || atDevice < 0) return [state, long(id)]
  const [stamp, version, dataVersion, created, seen, idle, , , expires] = kept.slice(0, atPrincipal).split(" ", 9)
  const createdAt = hex(created)
  const lastSeenAt = sum(createdAt, difference(seen))
  const expiresAt = sum(createdAt, difference(expires))
  const idleExpiresAt = sum(lastSeenAt, hex(idle))
  return [
    state,
    long(id),
    nothing(kept.slice(atPrincipal + 1, atActor)),
    atData < 0 ? undefined : kept.slice(atData + 1),
    difference(dataVersion),
    count(version),
    atData < 0 ? undefined : kept.slice(atDevice + 1, atData),
    moment(createdAt),
    moment(lastSeenAt),
    moment(idleExpiresAt === undefined ? undefined : Math.min(idleExpiresAt, expiresAt ?? idleExpiresAt)),
    moment(expiresAt),
    nothing(nonce),
    nothing(kept.slice(atActor + 1, atDevice)),
    stamp,
    until
  ]
}

/** The row that is all of an answer. */
const rowIn = (reply: unknown): Row => (isList(reply) ? rowOf(reply[0], reply[1]) : [])

/** Whose token it is, where it is a session's that lives or cannot be read. */
export const sessionOf = (reply: unknown): string | undefined => {
  const [state, id] = rowIn(reply)
  return (state === "live" || state === "broken") && typeof id === "string" ? id : undefined
}

const inUse = Result.fail(new Failure({ reason: new SessionTokenTaken() }))

/** The session of a row, or why there is none. */
export const session = (row: Row, open: SessionRow.Open): Result.Result<SessionRecord, SessionError> => {
  switch (row[0]) {
    case undefined:
      return Result.fail(SessionRow.unexpected("the answer of the server"))
    case "live":
      return SessionRow.record(row, open, 1)
    case "broken": {
      const read = SessionRow.record(row, open, 1)
      return Result.isFailure(read) ? read : Result.fail(SessionRow.unexpected(`session ${read.success.id}`))
    }
    case "conflict":
      return Result.fail(SessionRow.standing(["live"]))
    case "in use":
      return inUse
    case "failed":
      return Result.fail(failed({ cause: row[1] }))
    default:
      return Result.fail(SessionRow.standing(row))
  }
}

/** The session that is all of an answer. */
export const only = (reply: unknown, open: SessionRow.Open): Result.Result<SessionRecord, SessionError> =>
  session(rowIn(reply), open)

/** Where only the state counts. */
const unopened: SessionRow.Open = (_, kept) => Result.succeed(kept)

/** Whether a session is live, or why not, where the answer holds nothing else. */
export const live = (reply: unknown): Result.Result<void, SessionError> => {
  const row = rowIn(reply)
  if (row[0] === "live") return Result.void
  return row[0] === "broken"
    ? Result.fail(SessionRow.unexpected("the session of a token"))
    : Result.map(session(row, unopened), () => undefined)
}

/** A session in a list: none if it is over, a failure if it cannot be read. */
export const listed = (row: Row, open: SessionRow.Open): Result.Result<SessionRecord, SessionError> | undefined =>
  isOver(row) ? undefined : session(row, open)

/** Whether a session is over. What cannot be told is not. */
export const isOver = ([state]: Row): boolean => state === "missing" || state === "expired" || state === "revoked"

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

const rowsIn = (reply: ReadonlyArray<unknown>): ReadonlyArray<Row> =>
  Array.from({ length: reply.length / 2 }, (_, index) => rowOf(reply[index * 2], reply[index * 2 + 1]))

/** The same where an answer is the row of a session, which comes in two. */
export const rows = (asked: number) => {
  const read = answers(asked * 2)
  return (reply: unknown) => Effect.map(read(reply), rowsIn)
}

/** The ids of sessions, as the scripts know them. */
export const ids = (reply: unknown): Effect.Effect<ReadonlyArray<SessionId>, SessionError> =>
  decodeIds(isList(reply) ? reply.map(long) : reply)

const isShortId = (id: unknown): id is string => typeof id === "string" && shortId.test(id)

/** The same as they are. */
export const shortIds = (reply: unknown): Effect.Effect<ReadonlyArray<string>, SessionError> =>
  isList(reply) && reply.every(isShortId)
    ? Effect.succeed(reply)
    : Effect.fail(SessionRow.unexpected("the ids of sessions"))

const decodeIds = decoder(Schema.Array(SessionId), "the ids of sessions")

/**
 * What came of a login: the session and those that made room, or a state. Without a session: so many had to make room that it is
 * to be tried again.
 */
export const login = Effect.fnUntraced(function* (reply: unknown, open: SessionRow.Open) {
  if (isList(reply) && reply[0] === "more") return { record: undefined, displaced: yield* ids(reply[1]) }
  const record = yield* Effect.fromResult(only(reply, open))
  return { record, displaced: yield* ids(isList(reply) ? reply[2] : undefined) }
})

/** Some of a principal's sessions that were ended, up to which place they are, and whether there may be more. */
export const revokedSome = Effect.fnUntraced(function* (reply: unknown) {
  const [upto, ended, more] = yield* decodeRevoked(reply)
  return [upto, yield* ids(ended), more] as const
})
const decodeRevoked = decoder(
  Schema.Tuple([Schema.String, Schema.Unknown, Schema.Literals([0, 1])]),
  "the ids of sessions"
)

/** Where the next visitors' sessions are, and what there is of these. */
export const visitors = (reply: unknown) =>
  Effect.map(decodeVisitors(reply), ([place, all]) => [place, rowsIn(all)] as const)
const decodeVisitors = decoder(Schema.Tuple([Schema.String, Schema.Array(Schema.Unknown)]), "the sessions of visitors")

/** What to remember of a live session's row, and the bytes of its data and device; nothing where its token is to be renewed. */
export const remembered = (
  row: Row,
  record: SessionRecord
): { readonly known: Known; readonly bytes: number } | undefined => {
  if (record.renewalNonce !== null) return undefined
  const [data, device, stamp, until] = [row[3], row[6], row[stampAt], count(row[untilAt])]
  return typeof stamp === "string" &&
    typeof until === "number" &&
    typeof data === "string" &&
    typeof device === "string"
    ? { known: { record, stamp, until }, bytes: data.length + device.length }
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
