/**
 * What a query's record tells of its states, one event for each.
 */
import * as Option from "effect/Option"
import * as QueryRecord from "../QueryRecord.ts"
import * as QueryState from "../QueryState.ts"

/** A state that a query came to, and its record at that moment. The first has the number 1. */
export interface Event {
  readonly seq: number
  readonly record: QueryRecord.QueryRecord
}

/** The events behind those that were seen, and where to go on; nowhere after the terminal state. */
export const eventsOf = (record: QueryRecord.QueryRecord, seen: number) => {
  const found: Array<Event> = []
  for (let seq = seen + 1; seq <= record.transitions.length; seq++) {
    found.push({ seq, record: QueryRecord.asOf(record, seq) })
  }
  const next = QueryState.isTerminal(record.state) ? Option.none() : Option.some(record.transitions.length)
  return [found, next] as const
}
