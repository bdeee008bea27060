/**
 * Takes queries into the journal, or says which query was submitted with their key before.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { QueryError, QueryRejected } from "../../query/QueryError.ts"
import { QueryId } from "../../query/QueryId.ts"
import type * as QueryJournal from "../../query/QueryJournal.ts"
import * as PgQueryRow from "./PgQueryRow.ts"
import type { Inserted } from "./PgQueryWriter.ts"

/** What is needed to take queries in. */
export interface Options {
  /** The right to write about a query; undefined where this instance has no lease. */
  readonly claimOf: (id: QueryId) => QueryJournal.Claim | undefined
  readonly insert: (query: QueryJournal.NewQuery) => Effect.Effect<Inserted, QueryError>
  readonly readKey: (principal: string, key: string) => Effect.Effect<ReadonlyArray<PgQueryRow.Row>, QueryError>
}

type Entered = Effect.Effect<QueryJournal.Entered, QueryError>

export const notJoined = PgQueryRow.unavailable(
  "This instance has no lease in the database of query records at the moment. Try again later."
)

const decodeKey = PgQueryRow.decode(Schema.Tuple([QueryId, Schema.String]))

const rejected = (limit: "waitingOfPrincipal" | "keysOfPrincipal", query: QueryJournal.NewQuery) =>
  new QueryError({
    reason:
      limit === "keysOfPrincipal"
        ? new QueryRejected({ limit, count: query.key?.maxOfPrincipal ?? 0, retryAfterSeconds: 60 })
        : new QueryRejected({ limit, count: query.maxWaitingOfPrincipal, retryAfterSeconds: 1 })
  })

export const make = ({ claimOf, insert, readKey }: Options) => {
  const keyed = Effect.fnUntraced(function* (principal: string, key: string) {
    const [row] = yield* readKey(principal, key)
    if (row === undefined) return undefined
    const [id, digest] = yield* decodeKey(row.slice(0, 2))
    const record = row[2] === null ? undefined : yield* PgQueryRow.recordOf(row.slice(2))
    return { _tag: "Known" as const, id, digest, record }
  })

  const knownOr = ({ key, record }: QueryJournal.NewQuery, error: QueryError): Entered =>
    key === undefined
      ? Effect.fail(error)
      : Effect.flatMap(keyed(record.principal, key.name), (known) =>
          known === undefined ? Effect.fail(error) : Effect.succeed(known)
        )

  const enter = (query: QueryJournal.NewQuery): Entered =>
    Effect.suspend(() => {
      const { engine, id, principal, session } = query.record
      const claim = claimOf(id)
      if (claim === undefined) return Effect.fail(notJoined)
      if (![principal, session ?? "", engine, query.key?.name ?? ""].every(PgQueryRow.isStorable)) {
        return Effect.fail(
          PgQueryRow.unavailable("A principal, session or key with a null byte or half a character cannot be kept.")
        )
      }
      return Effect.flatMap(insert(query), (came): Entered => {
        switch (came) {
          case "in":
            return Effect.succeed({ _tag: "Taken", claim })
          case "over":
            return Effect.fail(notJoined)
          // Where its key was forgotten in the meantime, the next submission is a new query.
          case "known":
            return knownOr(query, notJoined)
          default:
            return knownOr(query, rejected(came, query))
        }
      })
    })

  return { enter, keyed }
}
