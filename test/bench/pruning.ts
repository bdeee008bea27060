/**
 * Loads while a million dead sessions are pruned: a real PostgreSQL of its own, on the loopback address, nothing synced to
 * disk, sharing the processors with this process.
 *
 * 64 fibers load 10,000 live sessions as fast as they can, in windows that take turns: quiet, and while `SessionPruning`
 * works off the backlog at its own pace; what the windows leave is pruned at the end. What counts: the 99th percentile of a
 * load against the quiet window before, and the longest transaction, watched by the server's own clock every few
 * milliseconds. Also, how many of the touches were heap-only, for sessions that are due once a second.
 *
 * `HOLDFAST_BENCH_DEAD` is the number of dead sessions (default: 1,000,000), `HOLDFAST_BENCH_PAIRS` that of pairs of windows of
 * five seconds (default: 20).
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import * as SessionPruning from "../../src/session/SessionPruning.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { TokenHash } from "../../src/session/SessionToken.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import { createHash } from "node:crypto"
import { loadavg } from "node:os"
import { quantile, range, ratios } from "./measure.ts"

const dead = Number(process.env.HOLDFAST_BENCH_DEAD ?? 1_000_000)
const live = 10_000
const inFlight = 64
const touched = 2000
const windowTime = Duration.seconds(5)
const pairs = Number(process.env.HOLDFAST_BENCH_PAIRS ?? 20)

/** Sessions `from` to `to` that were last seen so long ago; the hash of the token of the n-th is that of its number. */
const insert = (from: number, to: number, age: string) => [
  `insert into holdfast.sessions (id, principal, data, data_version, version, device, created_at, last_seen_at,
     idle_timeout, renew_every, expires_at)
   select 's_00000000-0000-4000-8000-' || lpad(n::text, 12, '0'), 'p' || n / 2, json_build_object('text', repeat('x', 400)), 1, 1,
     '{"userAgent":"bench"}', at, at, '1 hour', '1 hour', at + interval '12 hours'
   from generate_series(${from}, ${to}) n, (select now() - interval '${age}' as at) moment`,
  `insert into holdfast.session_tokens (hash, session, issued_at, nonce)
   select sha256(n::text::bytea), 's_00000000-0000-4000-8000-' || lpad(n::text, 12, '0'), now(), repeat('n', 43)
   from generate_series(${from}, ${to}) n`
]

const tokens = Array.from({ length: live }, (_, index) =>
  TokenHash.make(
    createHash("sha256")
      .update(String(index + 1))
      .digest("hex")
  )
)

/** Loads until interrupted; the latencies in milliseconds go where they belong at that moment. */
const loads = Effect.fnUntraced(function* (store: SessionStore["Service"], taken: () => Array<number>, among: number) {
  let next = 0
  const one = Effect.gen(function* () {
    const begun = performance.now()
    yield* store.load(tokens[next++ % among] ?? (yield* Effect.die("no token")))
    taken().push(performance.now() - begun)
  })
  yield* Effect.forEach(Array.from({ length: inFlight }), () => Effect.forever(one), { concurrency: "unbounded" })
})

const program = Effect.gen(function* () {
  const { superuserUrl: url } = yield* TestPostgres.make({ settings: { shared_buffers: "256MB", max_wal_size: "2GB" } })
  yield* PgSessionStore.migrate({ url })
  const connection = yield* PgConnection.make({ url })
  for (const statement of [...insert(1, live, "0 hours"), ...insert(live + 1, live + dead, "3 days")]) {
    yield* connection.query(statement)
  }
  yield* connection.query("insert into holdfast.principals select distinct principal from holdfast.sessions")
  yield* connection.query("vacuum analyze")
  const own = yield* Layer.build(PgSessionStore.layer({ url, applicationName: "bench" }))
  const prunes: Array<number> = []
  const batches: Array<number> = []
  const store = Context.get(own, SessionStore)
  const watched: SessionStore["Service"] = {
    ...store,
    prune: (limit) =>
      Effect.tap(store.prune(limit), ({ sessions, took }) =>
        Effect.sync(() => {
          prunes.push(Duration.toMillis(took))
          batches.push(sessions)
        })
      )
  }

  // What the server says about its open transactions: the longest, and what it was at when it was longest.
  let longest: { readonly millis: number; readonly at: string } = { millis: 0, at: "" }
  const watch = yield* PgConnection.make({ url })
  const watching = watch
    .queryValues(
      `select (extract(epoch from clock_timestamp() - xact_start) * 1000)::float8,
         concat_ws(' ', state, wait_event_type, wait_event, regexp_replace(left(query, 160), '\\s+', ' ', 'g'))
       from pg_stat_activity
       where application_name = 'bench' and backend_type = 'client backend' and state <> 'idle'
       order by xact_start limit 1`
    )
    .pipe(
      Effect.map(([row]) => {
        const millis = Number(row?.[0] ?? 0)
        if (millis > longest.millis) longest = { millis, at: String(row?.[1]) }
      }),
      Effect.andThen(Effect.sleep("5 millis")),
      Effect.forever
    )

  let taken: Array<number> = []
  const during = Effect.fnUntraced(function* <E>(work: Effect.Effect<unknown, E>) {
    taken = []
    yield* work
    return taken
  })
  const watcher = yield* Effect.forkChild(watching)
  const pruning = SessionPruning.round().pipe(Effect.provideService(SessionStore, watched))
  const loading = yield* Effect.forkChild(loads(store, () => taken, live))
  yield* Effect.sleep("3 seconds")
  // The machine drifts: each window of pruning is compared with the quiet one before it.
  const p99 = { quiet: [] as Array<number>, pruning: [] as Array<number> }
  const rates = { quiet: [] as Array<number>, pruning: [] as Array<number> }
  const note = (name: "quiet" | "pruning", window: ReadonlyArray<number>) => {
    p99[name].push(quantile(window, 0.99))
    rates[name].push((window.length * 1000) / Duration.toMillis(windowTime))
  }
  for (let pair = 0; pair < pairs; pair++) {
    note("quiet", yield* during(Effect.sleep(windowTime)))
    note("pruning", yield* during(Effect.timeoutOption(Effect.andThen(pruning, Effect.never), windowTime)))
  }
  yield* pruning
  yield* Fiber.interrupt(loading)
  yield* Fiber.interrupt(watcher)
  const [left] = yield* connection.queryValues("select count(*)::int from holdfast.sessions")
  console.table({
    "quiet: loads/s": range(rates.quiet, 0),
    "pruning: loads/s": range(rates.pruning, 0),
    "quiet: p99 of loads, ms": range(p99.quiet),
    "pruning: p99 of loads, ms": range(p99.pruning),
    "p99 pruning / quiet": range(ratios(p99.pruning, p99.quiet), 2),
    "dead sessions left": Number(left?.[0]) - live,
    "prune statements": prunes.length,
    "sessions per statement": range(batches, 0),
    "prune statement, by the server's clock, ms": range(prunes),
    "prune statement, 99.9 %, ms": quantile(prunes, 0.999).toFixed(1),
    "load average of the machine": loadavg()[0]?.toFixed(1),
    "longest transaction of all, by the server's clock, ms": longest.millis.toFixed(1)
  })
  console.log(`The longest transaction: ${longest.at}`)

  // Sessions that are due once a second and loaded all the time.
  yield* connection.query(
    "update holdfast.sessions set idle_timeout = '10 seconds', last_seen_at = now() where id <= $1",
    [`s_00000000-0000-4000-8000-${String(touched).padStart(12, "0")}`]
  )
  yield* connection.query("vacuum holdfast.sessions")
  const updates = Effect.gen(function* () {
    const reader = yield* PgConnection.make({ url })
    const [row] = yield* reader.queryValues(
      "select n_tup_upd::int, n_tup_hot_upd::int from pg_stat_user_tables where relname = 'sessions'"
    )
    return { all: Number(row?.[0]), hot: Number(row?.[1]) }
  }).pipe(Effect.scoped)
  yield* connection.query("select pg_stat_force_next_flush()")
  const before = yield* updates
  // A backend reports what it did a second after, at the latest.
  yield* Effect.timeoutOption(
    loads(store, () => [], touched),
    "10 seconds"
  )
  yield* Effect.sleep("2 seconds")
  const after = yield* updates
  const touches = after.all - before.all
  console.table({ touches, "heap-only %": (((after.hot - before.hot) * 100) / touches).toFixed(2) })
}).pipe(Effect.scoped)

export const run = () => Effect.runPromise(program)
