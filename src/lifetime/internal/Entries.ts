/**
 * The entries of a registry: who is listed, in which order, and who is to go.
 *
 * An entry is listed from its submission until it is forgotten; then what it keeps is freed. What it was can still be seen by
 * the reader of the entry.
 */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Described, Entry } from "./Entry.ts"
import type * as RunState from "./RunState.ts"

/** Which of a principal's, and how many. */
export interface ListOptions {
  /** Default: those in any state. */
  readonly state?: RunState.RunState | undefined
  /** At most so many. Default: 100. */
  readonly limit?: number | undefined
  /** The `next` of the listing before. Default: from the newest. */
  readonly after?: number | undefined
}

/** How many records of what is over are kept, and how many characters their texts may have together. */
export interface Bounds {
  readonly all: Bound
  readonly ofPrincipal: Bound
}

/** Of records. */
export interface Bound {
  readonly count: number
  readonly text: number
}

/** Entries in the order in which they ended. */
class Kept<E extends Entry> {
  /** With their sizes when they were added, and how many of all were added before. */
  private readonly entries = new Map<E, { readonly size: number; readonly order: number }>()
  private text = 0

  get isEmpty(): boolean {
    return this.entries.size === 0
  }

  get count(): number {
    return this.entries.size
  }

  get length(): number {
    return this.text
  }

  add(entry: E, size: number, order: number): void {
    this.entries.set(entry, { size, order })
    this.text += size
  }

  remove(entry: E): void {
    this.text -= this.entries.get(entry)?.size ?? 0
    this.entries.delete(entry)
  }

  /** In which way they are too many. The last one always stays: it is about to be told. */
  excess({ count, text }: Bound): "count" | "length" | undefined {
    if (this.count <= 1) return undefined
    return this.count > count ? "count" : this.text > text ? "length" : undefined
  }

  get oldest(): E | undefined {
    const [oldest] = this.entries.keys()
    return oldest
  }

  /** The place of the oldest among those of all. */
  get since(): number {
    const [oldest] = this.entries.values()
    return oldest?.order ?? 0
  }
}

/** A listing ends early with so many bytes of JSON, but has one record at least. */
const maxListed = 4 * 1024 * 1024

/** The entries of one principal, as long as it has any. */
class Theirs<E extends Entry> {
  readonly entries = new Set<E>()
  submitted = 0
  /**
   * The place before the first of them, in microseconds of the registry: nobody submits faster than that, so it comes after every
   * place that was told of theirs before.
   */
  readonly begin: number

  constructor(begin: number) {
    this.begin = begin
  }
}

/** Every entry that is listed. Times are in milliseconds of a steady clock. */
export class Entries<Record extends Described, E extends Entry<Record>> {
  private readonly born: number
  private readonly bounds: Bounds
  private readonly kept = new Kept<E>()
  private endedCount = 0
  private readonly keptOf = new Map<string, Kept<E>>()
  /** Taken off the list, but what they keep is not freed yet. */
  private readonly unlisted = new Set<E>()
  private readonly byId = new Map<string, E>()
  private readonly byPrincipal = new Map<string, Theirs<E>>()

  constructor(bounds: Bounds, now: number) {
    this.bounds = bounds
    this.born = now
  }

  /** Lists an entry; `make` is told its place among the submissions of its principal. */
  protected enter(principal: string, now: number, make: (order: number) => E): E {
    const theirs = this.byPrincipal.get(principal) ?? new Theirs<E>(Math.floor((now - this.born) * 1000))
    this.byPrincipal.set(principal, theirs)
    const entry = make(++theirs.submitted)
    theirs.entries.add(entry)
    this.byId.set(entry.record.id, entry)
    return entry
  }

  find(principal: string, id: string): E | undefined {
    const entry = this.byId.get(id)
    return entry?.record.principal === principal ? entry : undefined
  }

  has(entry: E): boolean {
    return this.byId.get(entry.record.id) === entry
  }

  all(): ReadonlyArray<E> {
    return Array.from(this.byId.values())
  }

  of(principal: string): ReadonlyArray<E> {
    return Array.from(this.byPrincipal.get(principal)?.entries ?? [])
  }

  /** Those that are to be freed: whose retention is over, or that were taken off the list. */
  due(now: number): ReadonlyArray<E> {
    const due = Array.from(this.unlisted)
    for (const entry of this.byId.values()) if (entry.isPast(now)) due.push(entry)
    return due
  }

  /**
   * Takes note of one that is about to be over, and takes those off the list that there is no room for any more. Its size is
   * that with its outcome.
   */
  ended(entry: E, size: number, at: DateTime.Utc): void {
    if (!this.has(entry)) return
    const { principal } = entry.record
    const theirs = this.keptOf.get(principal) ?? new Kept<E>()
    this.keptOf.set(principal, theirs)
    const order = this.endedCount++
    theirs.add(entry, size, order)
    this.kept.add(entry, size, order)
    const excess = () => {
      if (theirs.excess(this.bounds.ofPrincipal) !== undefined) return theirs.oldest
      const what = this.kept.excess(this.bounds.all)
      return what === undefined ? undefined : this.oldestOfMost(what, entry)
    }
    for (let old = excess(); old !== undefined; old = excess()) {
      this.unlist(old, at)
      this.unlisted.add(old)
    }
  }

  /**
   * Of the principal who has the most, so that nobody's go for those of another who has more; never the one that is about to be
   * told. Of equals it is the one that ended first.
   */
  private oldestOfMost(what: "count" | "length", told: E): E | undefined {
    let most: Kept<E> | undefined
    for (const theirs of this.keptOf.values()) {
      if (theirs.oldest === told) continue
      const more = theirs[what] - (most?.[what] ?? 0)
      if (most === undefined || more > 0 || (more === 0 && theirs.since < most.since)) most = theirs
    }
    return most?.oldest
  }

  private unlist(entry: E, at: DateTime.Utc): void {
    const { id, principal } = entry.record
    this.byId.delete(id)
    this.kept.remove(entry)
    const kept = this.keptOf.get(principal)
    kept?.remove(entry)
    if (kept?.isEmpty === true) this.keptOf.delete(principal)
    const theirs = this.byPrincipal.get(principal)
    theirs?.entries.delete(entry)
    if (theirs?.entries.size === 0) this.byPrincipal.delete(principal)
    if (entry.isOver) entry.expire(at)
    else entry.tell()
  }

  /** Takes an entry off the list and frees it, as {@link Entry.free}. */
  forget(entry: E, at: DateTime.Utc, limit?: Duration.Input): Effect.Effect<void> {
    return Effect.uninterruptible(
      Effect.suspend(() => {
        if (this.has(entry)) this.unlist(entry, at)
        this.unlisted.delete(entry)
        return entry.free(limit)
      })
    )
  }

  /**
   * A principal's, the newest first; fewer than asked for where they are long. `sizeOf` says with how many bytes of JSON one is
   * told.
   */
  protected page(
    principal: string,
    { after = Number.POSITIVE_INFINITY, limit = 100, state }: ListOptions,
    sizeOf: (record: Record) => number
  ): { readonly records: ReadonlyArray<Record>; readonly next: number | undefined } {
    const records: Array<Record> = []
    const begin = this.byPrincipal.get(principal)?.begin ?? 0
    let last: number | undefined
    let listed = 0
    for (const entry of this.of(principal).toReversed()) {
      const { order, record } = entry
      const place = begin + order
      if (place >= after || (state !== undefined && record.state !== state)) continue
      if (records.length === limit) return { records, next: last }
      listed += sizeOf(record)
      if (listed > maxListed && records.length > 0) return { records, next: last }
      records.push(record)
      last = place
    }
    return { records, next: undefined }
  }
}
