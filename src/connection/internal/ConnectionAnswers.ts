/**
 * What the errors of connections answer to callers from outside: the codes, statuses and titles of their problems, and a
 * sentence. Who holds what, and where the server is, is not the caller's: the log has that.
 */
import * as ProblemAnswer from "../../problem/ProblemAnswer.ts"
import type { ConnectionError } from "../ConnectionError.ts"

const unavailable = ProblemAnswer.kind("DatabaseUnavailable", 503, "The database cannot be reached")
const busy = ProblemAnswer.kind("DatabaseBusy", 503, "The database is busy")
const ended = ProblemAnswer.kind("SessionRevoked", 401, "The session was ended")

/** What happened, for a caller from outside. */
export const sentence = ({ message, reason }: ConnectionError): string => {
  switch (reason._tag) {
    case "Unavailable":
    case "Closed":
    case "ResetFailed":
      return "No connection to the database can be had. Try again later."
    case "NoRoom":
      return "The database takes no more connections. Try again later."
    case "AcquireTimeout":
      return (
        `No connection to the database became free within ${reason.afterMillis} ms: ` +
        `${reason.holders.length} of ${reason.max} are leased. Try again later.`
      )
    case "TooManyWaiters":
      return "Too many requests wait for a connection. Try again later."
    case "LeaseExpired":
      return `The connection was held for longer than ${reason.afterMillis} ms, and was closed. Do less at a time.`
    case "OwnerEnded":
    case "InvalidConfig":
      return message
  }
}

/** The answer of a route that a connection error leaves. */
export const of = (error: ConnectionError) => {
  const detail = sentence(error)
  switch (error.reason._tag) {
    case "Unavailable":
    case "Closed":
    case "ResetFailed":
      return ProblemAnswer.make(unavailable, { detail })
    case "NoRoom":
    case "AcquireTimeout":
    case "TooManyWaiters":
    case "LeaseExpired":
      return ProblemAnswer.make(busy, { detail })
    case "OwnerEnded":
      return ProblemAnswer.make(ended, { detail })
    case "InvalidConfig":
      return ProblemAnswer.none(error)
  }
}
