/**
 * What a registry is told: a query to be, its limits and times, and its engines.
 */
import * as Duration from "effect/Duration"
import type * as Lifetime from "../../lifetime/Lifetime.ts"
import type { Elsewhere, QueryDriver, Statement } from "../QueryDriver.ts"
import type * as QueryAdmission from "./QueryAdmission.ts"

/** A query to be. */
export interface Submission {
  readonly statement: Statement
  /** The name of the engine to run it on. Default: the registry's first. */
  readonly engine?: string | undefined
  /** Who may see it, cancel it and read it; fairness, limits and idempotency keys are between or within principals. */
  readonly principal: string
  /** Ends the query when it ends: the session that submitted it. */
  readonly owner?: Lifetime.Lifetime | undefined
  /** The public id of that session, for `cancelAll`. */
  readonly session?: string | undefined
  /** From now until the outcome, waiting included; at most the registry's `maxDeadline`. Default: the registry's. */
  readonly deadline?: Duration.Input | undefined
  /** How long record and rows stay after the end. Default: the registry's. */
  readonly retention?: Duration.Input | undefined
  /**
   * Makes submitting it again harmless: within the registry's window the same principal gets the same query for the same key,
   * statement, parameters, deadline and engine, in state `Expired` after its retention; with another statement it is an
   * `IdempotencyConflict`. A rejected submission uses up no key. Default: every submission is a new query.
   */
  readonly idempotencyKey?: string | undefined
  /**
   * Whether the statement may run again where its instance is gone and nobody knows how far it came. It counts only where several
   * instances share a journal. Default: no; such a query is `Failed`, and has `written: "unknown"`.
   */
  readonly rerun?: boolean | undefined
}

/** Limits and times; every one is finite. */
export interface Options extends QueryAdmission.Options {
  /** Of a submission that has none: from the submission until the outcome, waiting included. Default: 1 hour, or `maxDeadline`. */
  readonly deadline?: Duration.Input | undefined
  /** A longer deadline of a submission is cut to this. Default: 1 day. */
  readonly maxDeadline?: Duration.Input | undefined
  /** How long a record and its rows stay after the end. Default: 15 minutes. */
  readonly retention?: Duration.Input | undefined
  /**
   * Records of queries that are over, each with its rows; one more, and the oldest is treated as past its retention. Default:
   * 10,000.
   */
  readonly maxKept?: number | undefined
  /** Of one principal. Default: 1,000. */
  readonly maxKeptPerPrincipal?: number | undefined
  /**
   * Characters that the texts of all these records may have together, a quarter of them those of one principal; with more, the
   * oldest go, too. Statements count, errors, notices and columns. Default: 64 Mi.
   */
  readonly maxKeptText?: number | undefined
  /** How long an idempotency key is remembered. Default: 24 hours. */
  readonly idempotencyWindow?: Duration.Input | undefined
  /** Keys remembered of all principals; a submission with one more is rejected. Default: 100,000. */
  readonly maxKeys?: number | undefined
  /** Keys remembered of one principal; a submission with one more is rejected. Default: 10,000. */
  readonly maxKeysPerPrincipal?: number | undefined
  /** How long closing waits for running queries before it cancels them. Default: half a second, in which short ones end. */
  readonly drain?: Duration.Input | undefined
  /**
   * How long closing takes at most, `drain` included; a fifth of what that leaves is for freeing rows. What does not end by
   * then, because the driver or the result store is stuck, is left behind and stands in the ledger as `stalled`. Default: 5
   * seconds.
   */
  readonly closeTimeout?: Duration.Input | undefined
}

/** What a registry runs queries on, and how many at a time: each engine has places and a queue of its own. */
export interface Engine {
  readonly driver: QueryDriver["Service"]
  /** Default: the registry's. */
  readonly limits?: QueryAdmission.Options | undefined
  /**
   * Ends from elsewhere what an instance has left running that is gone, where a journal is shared. Default: what the driver has.
   * Where nothing can, whether such a statement still runs is not known.
   */
  readonly elsewhere?: Elsewhere | undefined
}

/** The limits and times as the registry uses them. */
export const resolve = (options: Options) => {
  const retention = Duration.fromInputUnsafe(options.retention ?? Duration.minutes(15))
  const drain = Duration.fromInputUnsafe(options.drain ?? Duration.millis(500))
  const closeTimeout = Duration.fromInputUnsafe(options.closeTimeout ?? Duration.seconds(5))
  const maxDeadline = Duration.fromInputUnsafe(options.maxDeadline ?? Duration.days(1))
  const usualDeadline = Duration.min(Duration.fromInputUnsafe(options.deadline ?? Duration.hours(1)), maxDeadline)
  const maxKept = options.maxKept ?? 10_000
  const maxKeptText = options.maxKeptText ?? 64 * 1024 * 1024
  const bounds = {
    all: { count: maxKept, text: maxKeptText },
    ofPrincipal: { count: Math.min(options.maxKeptPerPrincipal ?? 1000, maxKept), text: maxKeptText / 4 }
  }
  const idempotencyWindow = Duration.fromInputUnsafe(options.idempotencyWindow ?? Duration.hours(24))
  const maxKeys = { all: options.maxKeys ?? 100_000, ofPrincipal: options.maxKeysPerPrincipal ?? 10_000 }
  return { retention, drain, closeTimeout, maxDeadline, usualDeadline, bounds, idempotencyWindow, maxKeys }
}
