/**
 * Tells the operator why a PostgreSQL server cannot be used, see `Outages`.
 */
import * as Effect from "effect/Effect"
import { hasProperty } from "effect/Predicate"
import type * as Redacted from "effect/Redacted"
import { isSqlError } from "effect/sql/SqlError"
import * as Outages from "../../lifetime/internal/Outages.ts"
import * as PgTarget from "./PgTarget.ts"

/** What somebody does with which database. */
export interface Use {
  /** What it keeps, such as `sessions`. */
  readonly of: string
  readonly url: Redacted.Redacted<string>
  /** Who finds out. */
  readonly source: string
}

/** What one part of a program tells of its database. */
export const source = ({ of, source, url }: Use): Effect.Effect<Outages.Source> =>
  Effect.map(Outages.Outages, (outages) => {
    const where = PgTarget.whereOf(url)
    return outages.source({ name: `The database of ${of} (${where})`, where: `postgres ${where}`, source })
  })

/** What was said at the bottom of an error: the server's message and SQLSTATE, or the system's and its code. */
const said = (error: unknown): { readonly message: string; readonly code: string } => {
  const inner = isSqlError(error) ? error.reason.cause : hasProperty(error, "cause") ? error.cause : undefined
  if (typeof inner === "object" && inner !== null) return said(inner)
  const message = hasProperty(error, "message") && typeof error.message === "string" ? error.message : String(error)
  return { message, code: hasProperty(error, "code") && typeof error.code === "string" ? error.code : "" }
}

/** Why something failed, in a line without values of rows: those are in a server's details, which are left out. */
export const why = (error: unknown): string => {
  const { code, message } = said(error)
  const line = message.split("\n")[0] ?? ""
  if (line === "") return code
  return code === "" || line.includes(code) ? line : `${line} (${code})`
}

/**
 * Whether the failure of a statement says something of the server and not of the statement: the connection, who may enter,
 * which rights there are, resources, an operator at work, a standby, a broken system (classes 08, 28, 42501, 3D, 53, 57P, 25006,
 * 55000, 58, XX). A table that is not there is not made yet.
 */
const ofServer = /^(08|28|3D|53|57P|58|XX|42501$|25006$|55000$)/

/** Why a statement's failure is an outage; undefined where it is none. */
export const whyStatement = (error: unknown): string | undefined => {
  if (!isSqlError(error)) return undefined
  const { code } = said(error)
  return ofServer.test(code) || error.reason._tag === "ConnectionError" ? why(error) : undefined
}

/** Tells how something went that has the whole database for its subject. */
export const watched =
  (use: Use) =>
  <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(source(use), ({ failed, recovered }) =>
      work.pipe(
        Effect.tap(() => recovered),
        Effect.tapError((error) => failed(why(error)))
      )
    )
