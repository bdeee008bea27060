/**
 * Where the records, keys and outcomes of queries are kept: by default in the registry's own memory, or in a store that several
 * instances share.
 *
 * A journal lives as long as its layer, and must outlive the registries over it. The registry runs its queries itself and keeps
 * their live part; over a shared journal each state is written there by the instance that runs the query, and any instance
 * answers for any query.
 *
 * **Details**
 *
 * An instance writes as an *incarnation*, which has a lease that it renews. Once an incarnation was ended, by itself or by
 * another instance that found its lease over, nothing it writes is taken: every write names the incarnation, and the store looks
 * at it in the same step (a fencing token: Kleppmann, "How to do distributed locking", 2016). Then what it ran is ended at the
 * engines, and only then are its queries marked, or run again where that is allowed.
 *
 * `Queued` in a journal means that the query has certainly not begun. So one that waits for its place is written as `Starting`
 * before it takes a connection.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Column, Elsewhere, Statement } from "./QueryDriver.ts"
import type { QueryError } from "./QueryError.ts"
import type { QueryId } from "./QueryId.ts"
import type { QueryRecord } from "./QueryRecord.ts"
import type { QueryState } from "./QueryState.ts"

/** By which right an instance writes about a query. */
export interface Claim {
  readonly id: QueryId
  /** The incarnation that runs it. */
  readonly incarnation: string
  /** How often it was begun, this time included; 1 at first. */
  readonly attempt: number
}

/** What is needed to run a query, also on another instance. */
export interface Work {
  readonly record: QueryRecord
  readonly statement: Statement
  /** From the submission until the outcome, in milliseconds. */
  readonly deadlineMillis: number
  readonly retentionMillis: number
  /** Whether it may run again when nobody knows whether it has begun. */
  readonly rerun: boolean
}

/** An idempotency key, which is remembered from the submission on. */
export interface Key {
  readonly name: string
  /** Of what has to be the same. */
  readonly digest: string
  readonly windowMillis: number
  /** So many keys of one principal may be remembered. */
  readonly maxOfPrincipal: number
}

/** A query to be. Its state is `Queued`, or `Starting` where it has its place already. */
export interface NewQuery extends Work {
  readonly key: Key | undefined
  /** So many of its principal's may be `Queued` in the journal. */
  readonly maxWaitingOfPrincipal: number
}

/** What a submission came to: a query of this instance's, or the one that was submitted with the key before. */
export type Entered =
  | { readonly _tag: "Taken"; readonly claim: Claim }
  | { readonly _tag: "Known"; readonly id: QueryId; readonly digest: string; readonly record: QueryRecord | undefined }

/** Where the rows of a query that succeeded are. */
export interface Rows {
  readonly attempt: number
  readonly columns: ReadonlyArray<Column>
  /** The rows themselves where they are few: a line of JSON for each. */
  readonly inline: string | undefined
}

/** A query as the journal knows it. */
export interface Known {
  readonly record: QueryRecord
  readonly rows: Rows | undefined
}

/** Which queries of a principal's. `after` is the `next` of the listing before. */
export interface Wanted {
  readonly state: QueryState | undefined
  readonly limit: number
  readonly after: number | undefined
}

/** What the journal asks of the registry. None of it may throw. */
export interface Registry {
  /** Engines by name, with what ends at each what another instance has left running, where something can. */
  readonly engines: ReadonlyMap<string, Elsewhere | undefined>
  /** So many records of one principal's queries that are over are kept, and so many characters of their texts. */
  readonly keptOfPrincipal: { readonly count: number; readonly text: number }
  /** Somebody wants a query to end that this instance runs. */
  readonly cancel: (id: QueryId) => void
  /** A query is this instance's to run from now on. */
  readonly adopt: (claim: Claim, work: Work) => Effect.Effect<void>
  /** This incarnation was ended: what it runs is to be ended, and is not this instance's to tell any more. Returns when it is so. */
  readonly lost: Effect.Effect<void>
}

/** How this instance stands with the others. */
export interface Standing {
  /** Its name, which records tell. */
  readonly instance: string
  /** Whether its lease is valid. */
  readonly isValid: boolean
  /** Since its lease was last renewed, in milliseconds. */
  readonly lagMillis: number
  /** Instances that are alive, this one included. */
  readonly instances: number
  /** Instances that this one took over from. */
  readonly takenOver: number
}

/** An instance that is alive, and its answer; none of one that did not answer in time. */
export interface Answer {
  /** Its name. */
  readonly instance: string
  /** Since when it is there, in milliseconds of the epoch. */
  readonly since: number
  readonly answer: string | undefined
}

/** A journal that several instances share. */
export interface Shared {
  /** The name of this instance. */
  readonly instance: string
  /** Milliseconds of the journal's clock, as far as this instance knows it: its own clock may be wrong. */
  readonly now: () => number
  /** Whether this instance may say by itself how its queries stand. */
  readonly isValid: () => boolean
  readonly standing: Effect.Effect<Standing>
  /** Lets the registry take part until the scope closes; then the incarnation is over, and others run what it has handed over. */
  readonly join: (registry: Registry) => Effect.Effect<void, never, Scope.Scope>
  /** Takes a query in. */
  readonly enter: (query: NewQuery) => Effect.Effect<Entered, QueryError>
  /** The query of a key. */
  readonly keyed: (principal: string, key: string) => Effect.Effect<Entered | undefined, QueryError>
  /** Writes that a query which waited begins, and waits for it; false: it is not this instance's any more. */
  readonly begin: (claim: Claim, record: QueryRecord) => Effect.Effect<boolean>
  /** A query came to a state on its way. It is written when that lasts. */
  readonly note: (claim: Claim, record: () => QueryRecord) => void
  /** Writes an outcome, and waits for it for as long as it takes; false: it is not this instance's to tell. */
  readonly end: (claim: Claim, record: QueryRecord, rows: Rows | undefined) => Effect.Effect<boolean>
  /** Writes that a query has certainly not begun, or was undone, and is for others to run. */
  readonly handOver: (claim: Claim, work: Work) => Effect.Effect<boolean>
  readonly find: (principal: string, id: QueryId) => Effect.Effect<Known | undefined, QueryError>
  /** The newest first. */
  readonly list: (
    principal: string,
    wanted: Wanted
  ) => Effect.Effect<{ readonly records: ReadonlyArray<QueryRecord>; readonly next: number | undefined }, QueryError>
  /** Listens from now on; the effect within returns when there is news of the query, or may be. */
  readonly news: (id: QueryId) => Effect.Effect<Effect.Effect<void>, never, Scope.Scope>
  /**
   * Asks the instances that run them to end a principal's or a session's queries, or one of them, or one of anybody's, and tells
   * which those are.
   */
  readonly cancel: (
    of: { readonly principal: string; readonly id?: QueryId } | { readonly session: string } | { readonly id: QueryId }
  ) => Effect.Effect<ReadonlyArray<{ readonly id: QueryId; readonly principal: string }>, QueryError>
  /** Notes what this instance has at an engine, before it is used. Fails for an incarnation that is over. */
  readonly register: (engine: string, handle: string) => Effect.Effect<void, QueryError>
  /** Forgets what this instance had at an engine, and has no more. */
  readonly unregister: (engine: string, handles: ReadonlyArray<string>) => Effect.Effect<void, QueryError>
  /** Removes what is past its retention, in bounded steps. */
  readonly prune: Effect.Effect<void, QueryError>
  /**
   * Asks every instance that is alive, this one included, and waits until all have answered, or for some seconds: an instance that
   * stands still, or does not know the question, does not answer. None is alive before the first registry has joined.
   */
  readonly ask: (question: string) => Effect.Effect<ReadonlyArray<Answer>, QueryError>
  /** Answers what instances ask, until the scope closes; an answer of `undefined` is none. */
  readonly answering: (
    answer: (question: string) => Effect.Effect<string | undefined>
  ) => Effect.Effect<void, never, Scope.Scope>
  /** The sessions of queries that this instance took over from another, whose end it would not hear of otherwise. */
  readonly sessions: Effect.Effect<ReadonlyArray<string>>
}

/** The journal that registries are made over. Default: none, and a registry keeps its records in its own memory. */
export const QueryJournal = Context.Reference<Shared | undefined>("holdfast/query/QueryJournal", {
  defaultValue: () => undefined
})
