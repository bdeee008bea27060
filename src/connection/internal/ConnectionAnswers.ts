/**
 * What the errors of connections answer over HTTP: the codes, statuses and titles of their problems.
 */
import * as ProblemAnswer from "../../problem/ProblemAnswer.ts"

const unavailable = ProblemAnswer.kind("DatabaseUnavailable", 503, "The database cannot be reached")
const busy = ProblemAnswer.kind("DatabaseBusy", 503, "The database is busy")
const ended = ProblemAnswer.kind("SessionRevoked", 401, "The session was ended")

const again = { kind: unavailable, detail: "Try again later." }
const wait = { kind: busy, detail: "Too many requests wait for a connection. Try again later." }

/** By the tag of the reason. Who holds what, and where the server is, is not the caller's. */
export const table = {
  Unavailable: again,
  Closed: again,
  ResetFailed: again,
  AcquireTimeout: wait,
  TooManyWaiters: wait,
  OwnerEnded: { kind: ended },
  InvalidConfig: undefined
}
