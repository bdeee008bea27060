/**
 * Finds what a test, or a file of tests, has left open, and says what it is and where it was acquired.
 *
 * A check begins when it is made and is over when it was asked, or when its scope closes. It counts relative to its beginning, so that
 * what was there before needs no list.
 *
 * **When to use**
 *
 * {@link suite}, one line at the top of a file of tests, for everything that the file leaves open when it is over. What the file's own layers
 * hold is released by then. {@link around} for one test.
 *
 * **Details**
 *
 * | what                | is a leak when                                                                        |
 * | ------------------- | ------------------------------------------------------------------------------------- |
 * | entry of the ledger | it is held, or more were acquired than released                                       |
 * | fiber               | it is alive                                                                           |
 * | handle              | it keeps the process from ending: a timer, a socket, a server, a child process, …     |
 * | listener            | it is on `process` (a signal, `exit`, …)                                              |
 * | backend             | a database that is watched has it, whichever process opened it                        |
 * | row                 | a table of such a database has more or fewer of them                                  |
 *
 * What ends by itself a moment later is waited for, a second at most on a machine with nothing else to do.
 *
 * The place of a handle is the line that made it, that of an entry or a fiber the nearest `Effect.fn` or span, because a fiber runs from a
 * loop. {@link suite} tells the test, too, and in which test the rows of a table became so many.
 *
 * **Gotchas**
 *
 * {@link suite} counts the rows of a database that is watched before each test, which is for databases of tests and not for large ones.
 * A fiber is seen when it runs on Effect's default scheduler. Tests that run side by side cannot be told apart with {@link around}.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import { inRealTime } from "../embedded/Postmaster.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import type * as LeakDatabases from "./internal/LeakDatabases.ts"
import * as LeakFibers from "./internal/LeakFibers.ts"
import * as LeakHandles from "./internal/LeakHandles.ts"
import type * as LeakPlaces from "./internal/LeakPlaces.ts"

/** Something that is still there. */
export const Leak = Schema.Struct({
  kind: Schema.Literals(["ledger", "fiber", "handle", "backend", "row"]),
  /** In words, such as `timer that repeats every 50 ms`. */
  what: Schema.String,
  /** `file:line`, where it is known. */
  place: Schema.optionalKey(Schema.String),
  /** The test that ran when it was acquired, where it is known. */
  test: Schema.optionalKey(Schema.String),
  /** How deep it lies in the tree of what is held. */
  depth: Schema.Int
})
export type Leak = typeof Leak.Type

const whereOf = ({ place, test }: Leak) =>
  `acquired at ${place ?? "an unknown place"}${test === undefined ? "" : `, in the test "${test}"`}`

const lineOf = (leak: Leak) => `${"  ".repeat(leak.depth + 1)}${leak.what}, ${whereOf(leak)}`

/** What is left open has fibers that work for it: they come last, those of one place together. */
const linesOf = (leaks: ReadonlyArray<Leak>) => {
  const fibers = leaks.filter(({ kind }) => kind === "fiber")
  const together = Object.values(Arr.groupBy(fibers, whereOf)).map((group) =>
    group.length === 1 ? lineOf(group[0]) : `  ${group.length} fibers, ${whereOf(group[0])}`
  )
  return [...leaks.filter(({ kind }) => kind !== "fiber").map(lineOf), ...together]
}

/** Something was left open; the message has a line for each, or for all fibers of one place. */
export class LeaksFound extends Schema.TaggedError<LeaksFound>("holdfast/testing/LeakCheck/LeaksFound")("LeaksFound", {
  leaks: Schema.Array(Leak)
}) {
  override get message(): string {
    const count = this.leaks.length === 1 ? "one thing is" : `${this.leaks.length} things are`
    return [
      `It is over, and ${count} still there. Close each in a scope that the test closes:`,
      ...linesOf(this.leaks)
    ].join("\n")
  }
}

/** What is watched besides the process. */
export interface Options {
  /** PostgreSQL databases whose connections and rows are counted; install `@effect/sql-pg` for them. Default: none. */
  readonly databases?: ReadonlyArray<Redacted.Redacted<string>> | undefined
}

/** A check that has begun. */
export interface LeakCheck {
  /** Fails with what was acquired since the beginning and is still there. */
  readonly check: Effect.Effect<void, LeaksFound | SqlError>
}

/** How often it is looked before something counts as a leak, forty milliseconds apart. */
const patience = 25

/** Loaded where a database is watched: that needs `@effect/sql-pg`. */
const look = (url: Redacted.Redacted<string>) =>
  Effect.flatMap(
    Effect.promise(() => import("./internal/LeakDatabases.ts")),
    ({ look }) => look(url)
  )

const placed = (place: string | undefined, test: string | undefined) => ({
  ...(place !== undefined && { place }),
  ...(test !== undefined && { test })
})

const leakOf = (kind: Leak["kind"], what: string, place?: LeakPlaces.Place, test?: string): Leak => ({
  kind,
  what,
  depth: 0,
  ...placed(place?.text(), test)
})

/** Which test runs, and which one began the fiber of a number: that runs later than it is begun. */
interface Runner {
  readonly test: () => string | undefined
  readonly testOfFiber: (id: number) => string | undefined
  /** In which test a table came to have so many rows. */
  readonly testOfRows: (database: string, table: string, count: number) => string | undefined
}

/** The test that began the fiber which runs, or the test of the moment. */
const testOf =
  ({ test, testOfFiber }: Runner) =>
  () => {
    const fiber = Fiber.getCurrent()
    return (fiber === undefined ? undefined : testOfFiber(fiber.id)) ?? test()
  }

interface Beginning {
  readonly ledger: Ledger.Ledger
  readonly keys: ReadonlySet<number>
  readonly totals: ReadonlyMap<string, Ledger.Totals>
  readonly fibers: number
  readonly handles: number
  readonly databases: ReadonlyArray<readonly [Redacted.Redacted<string>, LeakDatabases.Holdings]>
}

/** Which test an entry of the ledger was acquired in. */
type Tests = ReadonlyMap<number, string>

const heldSince = ({ keys, ledger, totals }: Beginning, tests: Tests): Effect.Effect<ReadonlyArray<Leak>> =>
  Effect.gen(function* () {
    const leaks: Array<Leak> = []
    const walk = (all: ReadonlyArray<Ledger.HoldingTree>, depth: number): void => {
      for (const { holdings, id, key, kind, site, state } of all) {
        const isNew = !keys.has(key)
        const what = `${kind} ${id}${state === "held" ? "" : ` (${state})`}`
        if (isNew) leaks.push({ kind: "ledger", what, depth, ...placed(site, tests.get(key)) })
        walk(holdings, isNew ? depth + 1 : depth)
      }
    }
    walk(yield* ledger.held, 0)
    for (const [kind, { acquired, released }] of yield* ledger.totals) {
      const before = totals.get(kind)
      const open = acquired - (before?.acquired ?? 0) - (released - (before?.released ?? 0))
      const shown = leaks.filter(({ what }) => what.startsWith(`${kind} `)).length
      if (open > shown) leaks.push(leakOf("ledger", `${open - shown} of kind ${kind} that were never released`))
    }
    return leaks
  })

const inDatabases = ({ databases }: Beginning, runner?: Runner): Effect.Effect<ReadonlyArray<Leak>, SqlError> =>
  Effect.map(
    Effect.forEach(databases, ([url, before]) =>
      Effect.map(look(url), ({ backends, database, rows }) => {
        const leaks: Array<Leak> = []
        for (const { application, pid, port, state, statement } of backends.values()) {
          if (before.backends.has(pid)) continue
          const socket = port === null ? undefined : LeakHandles.socketOn(port)
          const what = `backend ${pid} of database ${database} (application ${application}, ${state}, last statement: ${statement})`
          leaks.push(leakOf("backend", what, socket?.place, socket?.during))
        }
        for (const [table, count] of rows) {
          const more = count - (before.rows.get(table) ?? 0)
          if (more === 0) continue
          const words = `${Math.abs(more)} ${Math.abs(more) === 1 ? "row" : "rows"}`
          const what = `${words} ${more > 0 ? "left in" : "gone from"} table ${table} of database ${database}`
          leaks.push(leakOf("row", what, undefined, runner?.testOfRows(database, table, count)))
        }
        return leaks
      })
    ),
    (all) => all.flat()
  )

const begin = (options: Options, runner?: Runner) =>
  Effect.gen(function* () {
    const stops = [LeakFibers.watch(), LeakHandles.watch(runner === undefined ? undefined : testOf(runner))]
    const ledger = yield* Ledger.Ledger
    const tests = new Map<number, string>()
    const unsubscribe = ledger.subscribe(({ event, key }) => {
      const name = runner?.test()
      if (event === "acquired" && name !== undefined) tests.set(key, name)
    })
    const stop = Effect.sync(() => {
      unsubscribe()
      for (const each of stops) each()
    })
    const databases = yield* Effect.forEach(options.databases ?? [], (url) =>
      Effect.map(look(url), (holdings) => [url, holdings] as const)
    ).pipe(Effect.onError(() => stop))
    const beginning: Beginning = {
      ledger,
      keys: new Set((yield* ledger.holdings).map(({ key }) => key)),
      totals: yield* ledger.totals,
      fibers: LeakFibers.nextId(),
      handles: LeakHandles.now(),
      databases
    }
    const check = Effect.gen(function* () {
      const [lastFiber, lastHandle] = [LeakFibers.nextId(), LeakHandles.now()]
      const own = yield* Effect.fiberId
      const find = Effect.gen(function* () {
        const fibers = LeakFibers.between(beginning.fibers, lastFiber).filter(({ id }) => id !== own)
        const handles = LeakHandles.between(beginning.handles, lastHandle)
        return [
          ...(yield* heldSince(beginning, tests)),
          ...fibers.map(({ id, place }) => leakOf("fiber", `fiber #${id}`, place, runner?.testOfFiber(id))),
          ...handles.map(({ during, place, what }) => leakOf("handle", what, place, during)),
          ...(yield* inDatabases(beginning, runner))
        ]
      })
      let leaks = yield* find
      for (let round = 0; round < patience && leaks.length > 0; round++) {
        yield* Effect.sleep("40 millis")
        leaks = yield* find
      }
      if (leaks.length > 0) return yield* new LeaksFound({ leaks })
    }).pipe(inRealTime)
    return { check, stop }
  })

/** Begins a check for the current scope. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  const { check } = yield* Effect.acquireRelease(begin(options), ({ stop }) => stop)
  return { check } satisfies LeakCheck
})

/** In a fiber of its own, whose children end with it. */
const inFiber = <A, E, R>(test: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Effect.forkChild(test, { startImmediately: true }), (fiber) =>
    Effect.onInterrupt(Fiber.join(fiber), () => Fiber.interrupt(fiber))
  )

/** Runs a test, and fails where it has left something open. A failure of the test itself comes first. */
export const around =
  (options: Options = {}) =>
  <A, E, R>(test: Effect.Effect<A, E, R>): Effect.Effect<A, E | LeaksFound | SqlError, R> =>
    Effect.acquireUseRelease(
      begin(options),
      ({ check }) => Effect.tap(inFiber(test), () => check),
      ({ stop }) => stop
    )

/** What a test runner calls, such as those of `vitest` or `node:test`. */
export interface Hooks {
  readonly beforeAll: (run: () => Promise<void>) => void
  readonly beforeEach: (
    run: (context: {
      readonly task?: { readonly name: string } | undefined
      readonly name?: string | undefined
    }) => Promise<void>
  ) => void
  readonly afterAll: (run: () => Promise<void>) => void
}

/**
 * Checks a whole file of tests: one line at its top, `LeakCheck.suite({ beforeAll, beforeEach, afterAll })`. The file fails when something is
 * left open after its last test and after its layers have closed.
 */
export const suite = (hooks: Hooks, options: Options = {}): void => {
  let current: string | undefined
  const begins: Array<{
    readonly test: string | undefined
    readonly fiber: number
    readonly databases: ReadonlyArray<LeakDatabases.Holdings>
  }> = []
  const runner: Runner = {
    test: () => current,
    testOfFiber: (id) => begins.findLast(({ fiber }) => fiber < id)?.test,
    testOfRows: (database, table, count) =>
      begins.findLast(({ databases }) =>
        databases.some((it) => it.database === database && (it.rows.get(table) ?? 0) !== count)
      )?.test
  }
  let begun: Effect.Success<ReturnType<typeof begin>> | undefined
  hooks.beforeAll(async () => {
    begun = await Effect.runPromise(begin(options, runner))
  })
  hooks.beforeEach(async (context) => {
    const databases = await Effect.runPromise(Effect.forEach(options.databases ?? [], look))
    current = context.task?.name ?? context.name
    begins.push({ test: current, fiber: LeakFibers.nextId(), databases })
  })
  hooks.afterAll(async () => {
    current = undefined
    if (begun !== undefined) await Effect.runPromise(Effect.ensuring(begun.check, begun.stop))
  })
}
