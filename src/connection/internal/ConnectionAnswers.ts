/**
 * What the errors of connections answer to callers from outside: the codes, statuses and titles of their problems, and a
 * sentence. Who holds what, and where the server is, is not the caller's: the log has that.
 */
import * as ProblemAnswer from "../../problem/ProblemAnswer.ts"

const unavailable = ProblemAnswer.kind("DatabaseUnavailable", 503, "The database cannot be reached")
const busy = ProblemAnswer.kind("DatabaseBusy", 503, "The database is busy")
const ended = ProblemAnswer.kind("SessionRevoked", 401, "The session was ended")

const none = { kind: unavailable, detail: "No connection to the database can be had. Try again later." }
const wait = { kind: busy, detail: "Too many requests wait for a connection. Try again later." }

/** By the tag of the reason. */
export const table = {
  Unavailable: none,
  Closed: none,
  ResetFailed: none,
  NoRoom: { kind: busy, detail: "The database takes no more connections. Try again later." },
  AcquireTimeout: wait,
  TooManyWaiters: wait,
  LeaseExpired: { kind: busy, detail: "The connection was held for too long, and was closed. Do less at a time." },
  OwnerEnded: { kind: ended },
  InvalidConfig: undefined
}

interface Reason {
  readonly _tag: keyof typeof table
  readonly message: string
  readonly afterMillis?: number
  readonly max?: number
  readonly holders?: ReadonlyArray<unknown>
}

/** What a caller from outside is told of a reason: how many hold connections, and not who or where. */
export const sentence = (reason: Reason): string => {
  const { afterMillis, holders, max } = reason
  if (holders !== undefined) {
    return (
      `No connection to the database became free within ${afterMillis} ms: ` +
      `${holders.length} of ${max} are leased. Try again later.`
    )
  }
  if (reason._tag === "LeaseExpired") {
    return `The connection was held for longer than ${afterMillis} ms, and was closed. Do less at a time.`
  }
  const answer: { readonly kind: ProblemAnswer.Kind; readonly detail?: string } | undefined = table[reason._tag]
  return answer?.detail ?? reason.message
}
