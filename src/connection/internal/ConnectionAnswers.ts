/**
 * What the errors of connections answer over HTTP: the codes, statuses and titles of their problems.
 */
import * as ProblemAnswer from "../../problem/ProblemAnswer.ts"
import type { ConnectionError } from "../ConnectionError.ts"

const unavailable = ProblemAnswer.kind("DatabaseUnavailable", 503, "The database cannot be reached")
const busy = ProblemAnswer.kind("DatabaseBusy", 503, "The database is busy")
const ended = ProblemAnswer.kind("SessionRevoked", 401, "The session was ended")

/** The answer of a route that a connection error leaves. Who holds what, and where the server is, is not the caller's. */
export const of = (error: ConnectionError) => {
  switch (error.reason._tag) {
    case "Unavailable":
    case "Closed":
    case "ResetFailed":
      return ProblemAnswer.make(unavailable, { detail: "Try again later." })
    case "AcquireTimeout":
    case "TooManyWaiters":
      return ProblemAnswer.make(busy, { detail: "Too many requests wait for a connection. Try again later." })
    case "OwnerEnded":
      return ProblemAnswer.make(ended, { detail: error.message })
    case "InvalidConfig":
      return ProblemAnswer.none(error)
  }
}
