/**
 * The account of everything a program holds open: who holds what, since when, under which parent and acquired where.
 *
 * An entry lives exactly as long as the resource it stands for: it is opened when the acquisition succeeded and struck
 * when the release finished, in the scope that {@link hold} is used in. A release has a time limit; one that exceeds it
 * lets the scope go on closing, and its entry stays in the account as `stalled` until the release really finished.
 * Failures of a release are logged and counted, never thrown over the result of the work.
 *
 * **When to use**
 *
 * Instead of `Effect.acquireRelease` for everything that must not leak. "No entry is left, and as many were released as
 * were acquired" is the leak check of tests; {@link Ledger.held} is what an operator looks at.
 *
 * **Gotchas**
 *
 * The default value of {@link Ledger} is one account per process. Tests provide their own with {@link layer}.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as LogEvent from "./internal/LogEvent.ts"
import * as OneEffect from "./internal/OneEffect.ts"

/** What may be noted about a held thing: printable values only, never a secret. */
export type Attributes = Readonly<Record<string, string | number | boolean>>

/**
 * `held` → `ending` (somebody asked for its end) → struck from the account; `stalled` when its release passed the limit.
 */
export type HoldingState = "held" | "ending" | "stalled"

/** One open thing, as an operator sees it. `since` is in milliseconds of the epoch, `parent` the key of the holder. */
export interface Holding {
  readonly key: number
  readonly parent: number | undefined
  readonly kind: string
  readonly id: string
  readonly attributes: Attributes
  readonly state: HoldingState
  readonly since: number
  /** `file:line` of the caller of the nearest `Effect.fn` or span, where there is one. */
  readonly site: string | undefined
}

/** A holding with what is held under it. */
export interface HoldingTree extends Holding {
  readonly holdings: ReadonlyArray<HoldingTree>
}

/** What happened to an entry. Every entry is `acquired` once and `released` once. */
export interface Change {
  readonly event: "acquired" | "ending" | "stalled" | "released"
  readonly kind: string
  readonly id: string
  readonly key: number
  readonly parent: number | undefined
  readonly at: number
}

/** Totals of one kind since the account was opened. `failed` and `stalled` count releases, not resources. */
export interface Totals {
  readonly acquired: number
  readonly released: number
  readonly failed: number
  readonly stalled: number
}

/** The open side of an entry, given to the fiber that opened it. */
export interface Entry {
  readonly key: number
  readonly kind: string
  readonly id: string
}

/** What describes a holding when it is acquired. */
export interface Options {
  readonly kind: string
  readonly id: string
  /** Those that change are a function, which is called when somebody looks. Must not throw. */
  readonly attributes?: Attributes | (() => Attributes) | undefined
  /**
   * How long the release may take before the scope goes on without it. Default: 3 seconds. `"none"` is for a release that
   * is bounded by itself, and costs less.
   */
  readonly releaseLimit?: Duration.Input | "none" | undefined
  /** Run when the limit passed, to make the release end by force (destroy the socket). Must not fail. */
  readonly onStalled?: Effect.Effect<void> | undefined
}

/** The account. All reads are snapshots. */
export interface Ledger {
  /** Everything open now, as a tree; a holding whose holder is gone stands at the top. */
  readonly held: Effect.Effect<ReadonlyArray<HoldingTree>>
  /** Everything open now, in the order of acquisition. */
  readonly holdings: Effect.Effect<ReadonlyArray<Holding>>
  readonly totals: Effect.Effect<ReadonlyMap<string, Totals>>
  /** Changes from now on. A slow reader loses none and holds nobody up: the buffer is unbounded, so read it. */
  readonly changes: Stream.Stream<Change>
  /** Calls `listener` at each change, synchronously, until the returned function is called. One that throws is dropped. */
  readonly subscribe: (listener: (change: Change) => void) => () => void
  /** @internal */
  readonly open: (options: Options, fiber: Fiber.Fiber<unknown, unknown>, parent?: Entry) => Entry
  /** @internal */
  readonly note: (entry: Entry, event: "ending" | "stalled") => void
  /** @internal */
  readonly strike: (entry: Entry, exit: Exit.Exit<unknown, unknown>) => void
}

class EntryImpl implements Entry {
  state: HoldingState = "held"
  readonly key: number
  readonly kind: string
  readonly id: string
  readonly attributes: Attributes | (() => Attributes)
  readonly parent: number | undefined
  readonly since: number
  readonly frame: References.StackFrame | undefined
  readonly clock: Clock.Clock

  constructor(key: number, options: Options, fiber: Fiber.Fiber<unknown, unknown>, parent: Entry | undefined) {
    this.key = key
    this.kind = options.kind
    this.id = options.id
    this.attributes = options.attributes ?? noAttributes
    this.parent = (parent ?? fiber.getRef(Parent))?.key
    this.frame = fiber.getRef(References.CurrentStackFrame)
    this.clock = fiber.getRef(Clock.Clock)
    this.since = this.clock.currentTimeMillisUnsafe()
  }

  get site(): string | undefined {
    return siteOf(this.frame?.stack())
  }
}

const noAttributes: Attributes = {}
const zero: Totals = { acquired: 0, released: 0, failed: 0, stalled: 0 }

const siteOf = (stack: string | undefined): string | undefined => {
  const line = stack?.split("\n").find((line) => line.includes("at "))
  return line?.replace(/^.*?at\s+/, "").trim()
}

/** Opens an empty account. */
export const makeUnsafe = (): Ledger => {
  const entries = new Map<number, EntryImpl>()
  const totals = new Map<string, Record<keyof Totals, number>>()
  const listeners = new Set<(change: Change) => void>()
  let nextKey = 1

  const count = (kind: string, field: keyof Totals): void => {
    const known = totals.get(kind)
    if (known !== undefined) known[field]++
    else totals.set(kind, { ...zero, [field]: 1 })
  }
  const tell = (entry: EntryImpl, event: Change["event"]): void => {
    if (listeners.size === 0) return
    const { id, key, kind, parent } = entry
    const change: Change = { event, kind, id, key, parent, at: entry.clock.currentTimeMillisUnsafe() }
    for (const listener of listeners) {
      try {
        listener(change)
      } catch {
        listeners.delete(listener)
      }
    }
  }
  const subscribe = (listener: (change: Change) => void) => {
    listeners.add(listener)
    return () => {
      listeners.delete(listener)
    }
  }
  const snapshot = (): ReadonlyArray<Holding> => Array.from(entries.values(), holdingOf)

  return {
    holdings: Effect.sync(snapshot),
    held: Effect.sync(() => treeOf(snapshot())),
    totals: Effect.sync(() => new Map(Array.from(totals, ([kind, counts]) => [kind, { ...counts }]))),
    subscribe,
    changes: Stream.callback<Change>((queue) =>
      Effect.acquireRelease(
        Effect.sync(() => subscribe((change) => Queue.offerUnsafe(queue, change))),
        (unsubscribe) => Effect.sync(unsubscribe)
      )
    ),
    open: (options, fiber, parent) => {
      OneEffect.check(fiber)
      const entry = new EntryImpl(nextKey++, options, fiber, parent)
      entries.set(entry.key, entry)
      count(entry.kind, "acquired")
      tell(entry, "acquired")
      return entry
    },
    note: ({ key }, event) => {
      const entry = entries.get(key)
      if (entry === undefined || entry.state === event) return
      entry.state = event
      if (event === "stalled") count(entry.kind, "stalled")
      tell(entry, event)
    },
    strike: ({ key }, exit) => {
      const entry = entries.get(key)
      if (entry === undefined) return
      entries.delete(key)
      if (Exit.isFailure(exit)) count(entry.kind, "failed")
      count(entry.kind, "released")
      tell(entry, "released")
    }
  }
}

/** The site is found when somebody asks: reading it off a stack costs more than all the rest. */
const holdingOf = (entry: EntryImpl): Holding => ({
  key: entry.key,
  parent: entry.parent,
  kind: entry.kind,
  id: entry.id,
  attributes: typeof entry.attributes === "function" ? entry.attributes() : entry.attributes,
  state: entry.state,
  since: entry.since,
  get site() {
    return entry.site
  }
})

const treeOf = (holdings: ReadonlyArray<Holding>): ReadonlyArray<HoldingTree> => {
  const nodes = new Map(holdings.map((holding) => [holding.key, { ...holding, holdings: [] as Array<HoldingTree> }]))
  const roots: Array<HoldingTree> = []
  for (const node of nodes.values()) {
    const parent = node.parent === undefined ? undefined : nodes.get(node.parent)
    ;(parent?.holdings ?? roots).push(node)
  }
  return roots
}

/** The account in use. Default: one per process. */
export const Ledger = Context.Reference<Ledger>("holdfast/lifetime/Ledger", { defaultValue: makeUnsafe })

/** The entry under which the running fiber acquires: the tree builds itself from it. */
export const Parent = Context.Reference<Entry | undefined>("holdfast/lifetime/Ledger/Parent", {
  defaultValue: () => undefined
})

/** An account of its own, for a test or a part of a program that is watched alone. */
export const layer: Layer.Layer<never> = Layer.effect(Ledger, Effect.sync(makeUnsafe))

const defaultReleaseLimit = Duration.seconds(3)

/**
 * Acquires a resource into the current scope and keeps its entry until it is released.
 *
 * **Details**
 *
 * `acquire` is uninterruptible, so that nothing it obtained is lost, and has no entry until it succeeded. `release` is
 * uninterruptible and runs once. When it fails, the cause is logged at warning level and counted; when it takes longer
 * than `releaseLimit` the entry becomes `stalled`, `onStalled` runs, and the scope goes on closing while the release is
 * awaited in the background.
 *
 * **Gotchas**
 *
 * Where the program runs on another copy of `effect` than Holdfast imports, nothing is acquired: it dies with the
 * places of both.
 *
 * An `acquire` that waits should make just the waiting interruptible (`Effect.uninterruptibleMask` around the call) and
 * tie what it obtains to a scope rather than to its result: an interruption may arrive between the two.
 */
export const hold = <A, E, R>(
  options: Options | ((resource: A) => Options),
  acquire: Effect.Effect<A, E, R>,
  release: (resource: A, exit: Exit.Exit<unknown, unknown>) => Effect.Effect<unknown>
): Effect.Effect<A, E, R | Scope.Scope> =>
  Effect.uninterruptible(
    Effect.withFiber<A, E, R | Scope.Scope>((outer) => {
      OneEffect.check(outer)
      const scope = Context.getUnsafe(outer.context, Scope.Scope)
      return Effect.flatMap(acquire, (resource) =>
        Effect.withFiber((fiber) => {
          const described = typeof options === "function" ? options(resource) : options
          const ledger = fiber.getRef(Ledger)
          const entry = ledger.open(described, fiber)
          const held = { ledger, entry, services: fiber.context }
          const finalizer = (exit: Exit.Exit<unknown, unknown>) =>
            releaseWithin(held, described, release(resource, exit))
          return Effect.as(Scope.addFinalizerExit(scope, finalizer), resource)
        })
      )
    })
  )

/** Keeps an entry for as long as an effect runs. */
export const during =
  (options: Pick<Options, "kind" | "id" | "attributes">) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.acquireUseRelease(
      Effect.withFiber((fiber) => {
        const ledger = fiber.getRef(Ledger)
        return Effect.succeed([ledger, ledger.open(options, fiber)] as const)
      }),
      () => effect,
      ([ledger, entry]) => Effect.sync(() => ledger.strike(entry, Exit.void))
    )

/** What is held, and the services of the fiber that acquired it: a scope may be closed where nobody set up any logging. */
interface Held {
  readonly ledger: Ledger
  readonly entry: Entry
  readonly services: Context.Context<never>
}

/** Runs a release for an entry: within the limit, logged and counted when it fails, struck when it is done. */
const releaseWithin = (
  { entry, ledger, services }: Held,
  options: Pick<Options, "releaseLimit" | "onStalled">,
  release: Effect.Effect<unknown>
): Effect.Effect<void> => {
  const { id, kind } = entry
  const title = `Releasing ${kind} ${id}`
  const warn = (line: Effect.Effect<void>) => Effect.updateContext<void, never, never, never>(line, () => services)
  const settle = (exit: Exit.Exit<unknown, unknown>) => {
    ledger.strike(entry, exit)
    if (Exit.isSuccess(exit)) return Effect.void
    const why = Cause.pretty(exit.cause)
    return warn(
      LogEvent.warning({ event: "release.failed", kind, id }, `${title} failed; the result of the work stands`, why)
    )
  }
  if (options.releaseLimit === "none") return Effect.flatMap(Effect.exit(release), settle)
  const limit = options.releaseLimit ?? defaultReleaseLimit
  return Effect.flatMap(Effect.forkDetach(release, { startImmediately: true, uninterruptible: true }), (fiber) => {
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return settle(exit)
    return Effect.flatMap(Effect.timeoutOption(Fiber.await(fiber), limit), (exit) => {
      if (Option.isSome(exit)) return settle(exit.value)
      ledger.note(entry, "stalled")
      return warn(
        LogEvent.warning(
          { event: "release.stalled", kind, id },
          `${title} takes too long; it goes on in the background`
        )
      ).pipe(
        Effect.andThen(options.onStalled ?? Effect.void),
        Effect.andThen(Effect.forkDetach(Effect.flatMap(Fiber.await(fiber), settle)))
      )
    })
  })
}
