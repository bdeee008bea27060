/**
 * The queries of a registry. A query is listed from its submission until it is forgotten; then its rows are freed.
 */
import * as Kept from "../../lifetime/internal/Entries.ts"
import type { QueryRecord } from "../QueryRecord.ts"
import { Entry, type Submitted } from "./QueryRegistryEntry.ts"
import * as QuerySizes from "./QuerySizes.ts"
import type * as QueryState from "../QueryState.ts"

/** Part of a principal's queries. */
export interface Listing {
  readonly queries: ReadonlyArray<QueryRecord>
  /** Pass it as `after` to get those that follow, if there are any. It tells nothing about the queries of others. */
  readonly next: number | undefined
}

/** Which of a principal's queries, and how many. */
export interface ListOptions {
  /** Default: those in any state. */
  readonly state?: QueryState.QueryState | undefined
  /** At most so many. Default: 100. */
  readonly limit?: number | undefined
  /** The `next` of the listing before. Default: from the newest. */
  readonly after?: number | undefined
}

/** Every query that is listed. Times are in milliseconds of a steady clock. */
export class Entries extends Kept.Entries<QueryRecord, Entry> {
  add(submitted: Submitted, now: number): Entry {
    return this.enter(submitted.principal, now, (order) => new Entry(order, submitted))
  }

  /** A principal's queries, the newest first; fewer than asked for where their texts are long. */
  list(principal: string, options: ListOptions = {}): Listing {
    const { next, records } = this.page(principal, options, QuerySizes.jsonBytesOfRecord)
    return { queries: records, next }
  }
}
