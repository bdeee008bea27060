/**
 * Tells the operator why a server cannot be used: each cause once, when it is met, and once that it is over.
 *
 * What is known of an outage is kept until it is over, or as long as the log itself: by default, the process.
 *
 * **Details**
 *
 * Several parts of a program use one server, and find out about an outage side by side. They are sources of one target, so a
 * cause that all of them meet is told once. An outage is over when everything works again that
 * failed.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as LogEvent from "./LogEvent.ts"
import * as SteadyClock from "./SteadyClock.ts"

/** What is away, for whom. */
export interface Target {
  /** What it is and where, with no secret: `The database of sessions (127.0.0.1:5432/app)`. */
  readonly name: string
  /** Tells targets apart: where it is. */
  readonly where: string
  /** Who finds out, such as `readers`: each fails and recovers on its own. */
  readonly source: string
}

/** What a source tells. */
export interface Source {
  /** It could not be used; `why` is what the server or the system said, without a secret or a value of anybody's. */
  readonly failed: (why: string) => Effect.Effect<void>
  /** It was used, beside others who may fail: it takes some more seconds without a failure to believe it. */
  readonly worked: Effect.Effect<void>
  /** It was used, by the only one who does so for this source. */
  readonly recovered: Effect.Effect<void>
}

export interface Outages {
  readonly source: (target: Target) => Source
}

/** Says a line: that something cannot be used and why, or that it can again. */
export type Say = (line: string, isOver: boolean, about: About) => Effect.Effect<void>

/** What a line is about. */
export interface About {
  readonly name: string
  /** Why it cannot be used; undefined where it can be again. */
  readonly why?: string
}

/** So long, in milliseconds, nothing may have failed before it is said that all is well. */
const quiet = 2000

interface Outage {
  readonly name: string
  readonly causes: Set<string>
  /** When each source failed last. */
  readonly failing: Map<string, number>
}

const now = Clock.clockWith((clock) => Effect.sync(() => SteadyClock.millis(clock)))

/** Makes a log of outages in which nothing is away. */
export const makeUnsafe = (say: Say): Outages => {
  const outages = new Map<string, Outage>()

  const failed = ({ name, source, where }: Target, why: string, now: number) => {
    const outage = outages.get(where) ?? { name, causes: new Set(), failing: new Map() }
    outages.set(where, outage)
    outage.failing.set(source, now)
    if (outage.causes.has(why)) return Effect.void
    outage.causes.add(why)
    const { name: what } = outage
    return say(`${what} cannot be used: ${why.replace(/\.$/, "")}`, false, { name: what, why })
  }

  const worked = ({ source, where }: Target, now: number) => {
    const outage = outages.get(where)
    const failedAt = outage?.failing.get(source) ?? -Infinity
    if (outage === undefined || now - failedAt < quiet) return Effect.void
    outage.failing.delete(source)
    if (outage.failing.size > 0) return Effect.void
    outages.delete(where)
    return say(`${outage.name} can be used again`, true, { name: outage.name })
  }

  return {
    source: (target) => ({
      failed: (why) => Effect.flatMap(now, (now) => failed(target, why, now)),
      worked: Effect.suspend(() =>
        outages.has(target.where) ? Effect.flatMap(now, (now) => worked(target, now)) : Effect.void
      ),
      recovered: Effect.suspend(() => worked(target, Infinity))
    })
  }
}

const log: Say = (line, isOver, { name, why }) =>
  isOver
    ? LogEvent.info({ event: "outage.over", what: name }, `${line}.`)
    : LogEvent.warning({ event: "outage.began", what: name, why }, `${line}. Holdfast keeps trying.`)

/** The log of outages in use. Default: one per process, which says each line to the logger. */
export const Outages = Context.Reference<Outages>("holdfast/lifetime/Outages", { defaultValue: () => makeUnsafe(log) })
