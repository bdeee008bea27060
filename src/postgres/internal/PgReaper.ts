/**
 * Sees to it that backends that were given up are gone from the server.
 *
 * A reaper lives as long as its source. It holds a control connection, as the same role, only while there is something to
 * watch; where the server cannot be asked it tries again until it can.
 *
 * **Details**
 *
 * A backend is known by process id *and* start time, so that a reused process id is never mistaken for it. One of ours is ended
 * after the grace time, whatever it runs: a statement may have been on its way for longer than its connection lived. Where a pooler
 * may have given a backend to somebody else, what it ran when it was first seen is remembered, and it is ended only if it still
 * runs the same statement (`query_start`).
 */
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as SteadyClock from "../../lifetime/internal/SteadyClock.ts"
import * as PgDriver from "./PgDriver.ts"
import type { Backend } from "./PgOpening.ts"

export interface PgReaper {
  /** Returns when the server has no such backend; ends it by force when it is still there after `grace`. */
  readonly expel: (backend: Backend, grace: Duration.Duration) => Effect.Effect<void>
}

interface Target extends Backend {
  /** On the steady clock. */
  readonly after: number
  readonly gone: Deferred.Deferred<void>
  queryStart: string | null | undefined
}

const Rows = Schema.Array(Schema.Tuple([Schema.Int, Schema.String, Schema.NullOr(Schema.String)]))
const decodeRows = Schema.decodeUnknownEffect(Rows)

/** Nothing is found by the search path, which may be somebody else's choice. */
const backends = `pg_catalog.pg_stat_activity a
    on a.pid operator(pg_catalog.=) t.pid and a.backend_start operator(pg_catalog.=) t.start`

const look = `select a.pid, a.backend_start::pg_catalog.text, a.query_start::pg_catalog.text
  from rows from (pg_catalog.unnest($1::pg_catalog.int4[]), pg_catalog.unnest($2::pg_catalog.timestamptz[])) as t(pid, start)
  join ${backends}`

const end = `select pg_catalog.pg_terminate_backend(a.pid)
  from rows from (pg_catalog.unnest($1::pg_catalog.int4[]), pg_catalog.unnest($2::pg_catalog.timestamptz[]),
    pg_catalog.unnest($3::pg_catalog.timestamptz[]), pg_catalog.unnest($4::pg_catalog.bool[])) as t(pid, start, query, ours)
  join ${backends}
    and (t.ours or a.query_start operator(pg_catalog.=) t.query or a.query_start is null and t.query is null)`

type Ask = Effect.Success<ReturnType<typeof PgDriver.brief>>

const keyOf = ({ pid, startedAt }: Pick<Backend, "pid" | "startedAt">) => `${pid} ${startedAt}`

/** Makes a reaper that stops with the current scope. `config` is that of the connections it watches. */
export const make = Effect.fnUntraced(function* (config: PgConnection.Config, connect?: PgDriver.Connect) {
  const clock = yield* Clock.Clock
  const targets = new Map<string, Target>()
  const worker = yield* FiberHandle.make()

  const round = Effect.fnUntraced(function* (ask: Ask) {
    const all = Array.from(targets.values())
    const found = yield* ask(look, [all.map(({ pid }) => pid), all.map(({ startedAt }) => startedAt)])
    const there = new Map(
      (yield* decodeRows(found)).map(([pid, startedAt, queryStart]) => [keyOf({ pid, startedAt }), queryStart])
    )
    for (const target of all) {
      const key = keyOf(target)
      const queryStart = there.get(key)
      // Behind a pooler, one that runs something else by now has outlived what was to be ended, and may be somebody else's.
      const isOver = queryStart === undefined || (!target.isOurs && (target.queryStart ?? queryStart) !== queryStart)
      if (isOver) {
        targets.delete(key)
        yield* Deferred.succeed(target.gone, undefined)
      } else {
        target.queryStart ??= queryStart
      }
    }
    const now = SteadyClock.millis(clock)
    const due = all.filter((target) => targets.has(keyOf(target)) && target.after <= now)
    if (due.length > 0) {
      yield* ask(end, [
        due.map(({ pid }) => pid),
        due.map(({ startedAt }) => startedAt),
        due.map(({ queryStart }) => queryStart ?? null),
        due.map(({ isOurs }) => isOurs)
      ])
    }
  })

  // A control connection that does not answer is as bad as none: each round has a time limit, each failure a new try.
  const watch = Effect.scoped(
    Effect.flatMap(PgDriver.brief(config, connect), (ask) =>
      Effect.repeat(Effect.timeout(round(ask), "2 seconds"), {
        until: () => targets.size === 0,
        schedule: Schedule.spaced("50 millis")
      })
    )
  ).pipe(
    Effect.tapError((error) =>
      LogEvent.debug(
        { event: "connection.unwatched" },
        "Backends that were given up cannot be watched; trying again",
        error
      )
    ),
    Effect.retry(Schedule.spaced("200 millis")),
    Effect.repeat({ while: () => targets.size > 0 })
  )

  return {
    expel: (backend, grace) =>
      Effect.gen(function* () {
        const known = targets.get(keyOf(backend))
        const after = SteadyClock.millis(clock) + Duration.toMillis(grace)
        const gone = known?.gone ?? (yield* Deferred.make<void>())
        targets.set(keyOf(backend), {
          ...backend,
          gone,
          after: Math.min(after, known?.after ?? after),
          queryStart: known?.queryStart
        })
        yield* FiberHandle.run(worker, watch, { onlyIfMissing: true })
        yield* Deferred.await(gone)
      })
  } satisfies PgReaper
})
