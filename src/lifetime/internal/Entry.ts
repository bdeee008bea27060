/**
 * A piece of work that was submitted, as its registry knows it: since when, in which state, and until when it is kept.
 *
 * An entry lives as long as somebody has it. It is the only place that changes its record.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Lifetime from "../Lifetime.ts"
import * as RunState from "./RunState.ts"

/** What every record says. */
export interface Described {
  readonly id: string
  readonly principal: string
  readonly state: RunState.RunState
}

/** How long work had its place, waited until it ran, and ran, in milliseconds; none of what it did not come to. */
export interface Spans {
  readonly held: number | undefined
  readonly waited: number | undefined
  readonly ran: number | undefined
}

/** When an entry begins, and how long it is kept after its end. */
export interface Times {
  /** On the steady clock, in milliseconds. */
  readonly steadyAt: number
  readonly retention: Duration.Duration
}

export abstract class Entry<Record extends Described = Described> {
  /** Counts the submissions of its principal: an entry comes after those of a smaller number. */
  readonly order: number
  private readonly retention: Duration.Duration
  // On the steady clock, in milliseconds.
  private readonly submittedAt: number
  private startedAt: number | undefined
  private ranAt: number | undefined
  private endedAt: number | undefined
  private running: Lifetime.Lifetime | undefined
  private watchers: Set<() => void> | undefined

  constructor(order: number, { retention, steadyAt }: Times) {
    this.order = order
    this.retention = retention
    this.submittedAt = steadyAt
  }

  abstract get record(): Record
  /** Characters that are kept of it. */
  abstract get size(): number
  /** Goes to the state `Expired`. */
  abstract expire(at: DateTime.Utc): void
  /** Frees what is kept besides the record. Must not be interrupted. */
  abstract free(limit?: Duration.Input): Effect.Effect<void>

  get isOver(): boolean {
    return RunState.isTerminal(this.record.state)
  }

  /** Takes note of when it came to a state. */
  came(state: RunState.RunState, now: number): void {
    if (state === "Starting") this.startedAt = now
    if (state === "Running") this.ranAt = now
  }

  /** Takes note of when it is over. */
  ended(now: number): Spans {
    const { ranAt, startedAt, submittedAt } = this
    this.startedAt = this.ranAt = undefined
    this.endedAt = now
    return {
      held: startedAt === undefined ? undefined : now - startedAt,
      waited: ranAt === undefined ? undefined : ranAt - submittedAt,
      ran: ranAt === undefined ? undefined : now - ranAt
    }
  }

  /** Whether it is over for longer than it is kept. */
  isPast(now: number): boolean {
    const { endedAt, retention } = this
    return endedAt !== undefined && now - endedAt >= Duration.toMillis(retention)
  }

  /** It runs, or waits to. */
  begun(lifetime: Lifetime.Lifetime): void {
    if (this.isOver) return
    this.running = lifetime
    this.tell()
  }

  /** When it is removed that ended at a moment. */
  protected keptUntil(at: DateTime.Utc): DateTime.Utc {
    return after(at, this.retention)
  }

  /** To be called when the record has a new state. */
  protected stepped(): void {
    if (this.isOver) this.running = undefined
    this.tell()
  }

  /** Lets the fibers that wait look again. */
  tell(): void {
    for (const look of this.watchers ?? []) look()
  }

  /** Waits until `look` sees something; it looks in the very moment in which something about the entry changes. */
  when<A>(look: () => A | undefined): Effect.Effect<A> {
    return Effect.callback((resume) => {
      const watchers = (this.watchers ??= new Set())
      const leave = () => {
        watchers.delete(tell)
      }
      const tell = () => {
        const seen = look()
        if (seen === undefined) return
        leave()
        resume(Effect.succeed(seen))
      }
      watchers.add(tell)
      tell()
      return Effect.sync(leave)
    })
  }

  /** The lifetime of work that is not over. What was submitted a moment ago has none yet. */
  lifetime(): Effect.Effect<Lifetime.Lifetime | null> {
    return this.when(() => (this.isOver ? null : this.running))
  }

  /** Asks for the end of the work and waits for it. */
  end(): Effect.Effect<void> {
    return Effect.flatMap(this.lifetime(), (lifetime) => lifetime?.end() ?? Effect.void)
  }
}

/** The last moment that a date can tell (ECMA-262, 21.4.1.1). */
const endOfTime = 8.64e15

const after = (at: DateTime.Utc, duration: Duration.Duration): DateTime.Utc =>
  DateTime.makeUnsafe(Math.min(at.epochMilliseconds + Duration.toMillis(duration), endOfTime))

/** Does something with some entries, side by side. */
export const inParallel = <E, A>(some: ReadonlyArray<E>, f: (entry: E) => Effect.Effect<A>) =>
  Effect.forEach(some, f, { concurrency: "unbounded" })
