/**
 * What a load costs among ten million live sessions, to among ten thousand, and what a session takes in PostgreSQL.
 *
 * One real server of its own, nothing synced to disk, with both sets of sessions in schemas of their own; their rows are made by
 * SQL and look like those of logins. 64 loads at the same time, each of one of 10,000 sessions at random, which lie all over the
 * others; or of *any* of them, most of which are in no cache. *Nothing remembered* is a store that fetches every session anew, as
 * an instance does that has not seen it.
 *
 * The bytes are those of the tables and of their indexes after all sessions were made, by session, and the WAL of 2,000 logins by
 * the store. `HOLDFAST_BENCH_SESSIONS` is the number of sessions (default: 10,000,000, which take 12 GB and ten minutes).
 */
import { createHash } from "node:crypto"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { TokenHash } from "../../src/session/SessionToken.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import { quantile, range, ratios, takeTurns } from "./measure.ts"
import { publish } from "./record.ts"
import { login } from "./sessionLoads.ts"

const many = Number(process.env.HOLDFAST_BENCH_SESSIONS ?? 10_000_000)
const few = 10_000
const inFlight = 64
const rounds = 7
const roundMillis = 1_000
const logins = 2_000
/** So many rows in a statement. */
const atOnce = 500_000

const insert = (schema: string, from: number, to: number) => [
  `insert into ${schema}.sessions (id, principal, data, data_version, version, device, created_at, last_seen_at,
     idle_timeout, renew_every, expires_at)
   select 's_00000000-0000-4000-8000-' || lpad(n::text, 12, '0'), 'user-' || n,
     json_build_object('index', n, 'locale', 'de-CH', 'cart', '[{"sku":"A-1","quantity":1,"price":1990},{"sku":"A-2","quantity":2,"price":1991}]'::json),
     1, 1, '{"userAgent":"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101","ip":"192.0.2.7"}', now(), now(),
     '12 hours', '12 hours', now() + interval '24 hours'
   from generate_series(${from}, ${to}) n`,
  `insert into ${schema}.session_tokens (hash, session, issued_at, nonce)
   select sha256(n::text::bytea), 's_00000000-0000-4000-8000-' || lpad(n::text, 12, '0'), now(), translate(encode(sha256(n::text::bytea), 'base64'), '=', '')
   from generate_series(${from}, ${to}) n`,
  `insert into ${schema}.principals select 'user-' || n from generate_series(${from}, ${to}) n`
]

const tokenOf = (index: number) => TokenHash.make(createHash("sha256").update(String(index)).digest("hex"))

/** So many of the sessions, in no order. */
const someOf = (count: number, size: number) =>
  Array.from({ length: size }, (_, index) => {
    const number = 1 + Math.floor(((index + Math.random()) * count) / size)
    return { name: `user-${number}`, token: tokenOf(number) }
  })

/** Loads some sessions for a while; tells percentiles in milliseconds. */
const loads = (store: SessionStore["Service"], sessions: ReturnType<typeof someOf>) => async () => {
  const latencies: Array<number> = []
  const until = performance.now() + roundMillis
  const one = Effect.suspend(() => {
    const { name, token } = sessions[Math.floor(Math.random() * sessions.length)] ?? { name: "", token: tokenOf(0) }
    const begun = performance.now()
    return Effect.map(store.load(token), ({ principal }) => {
      if (principal !== name) throw new Error(`Asked for ${name}, got ${principal}`)
      latencies.push(performance.now() - begun)
    })
  })
  const line = Effect.whileLoop({ while: () => performance.now() < until, body: () => one, step: () => {} })
  await Effect.runPromise(
    Effect.all(
      Array.from({ length: inFlight }, () => line),
      { concurrency: "unbounded", discard: true }
    )
  )
  return { p50: quantile(latencies, 0.5), p99: quantile(latencies, 0.99) }
}

const program = Effect.gen(function* () {
  const { superuserUrl: url } = yield* TestPostgres.make({ settings: { shared_buffers: "2GB", max_wal_size: "8GB" } })
  const admin = yield* PgConnection.make({ url })
  const counts = { few, many }
  const stores: Record<string, ReturnType<typeof loads>> = {}
  const bytes = { table: 0, indexes: 0, wal: 0 }
  for (const [schema, count] of Object.entries(counts)) {
    yield* PgSessionStore.migrate({ url, schema })
    const begun = performance.now()
    for (let from = 1; from <= count; from += atOnce) {
      for (const statement of insert(schema, from, Math.min(from + atOnce - 1, count))) yield* admin.query(statement)
    }
    const sizes = yield* admin.queryValues(
      `select sum(pg_table_size(c.oid))::float8, sum(pg_indexes_size(c.oid))::float8 from pg_class c
         join pg_namespace n on n.oid = relnamespace where nspname = $1 and relkind = 'r'`,
      [schema]
    )
    bytes.table = Number(sizes[0]?.[0]) / count
    bytes.indexes = Number(sizes[0]?.[1]) / count
    yield* admin.query(`vacuum analyze`)
    console.log(`${count} sessions made in ${((performance.now() - begun) / 1000).toFixed(0)} s`)
    for (const [name, rememberedBytes] of Object.entries({ remembered: undefined, "nothing remembered": 0 })) {
      const context = yield* Layer.build(
        Layer.fresh(PgSessionStore.layer({ url, schema, rememberedBytes, pruning: false }))
      )
      const store = Context.get(context, SessionStore)
      stores[`${schema}, ${name}`] = loads(store, someOf(count, few))
      if (schema === "many" && rememberedBytes === 0) stores["any"] = loads(store, someOf(count, 500_000))
      if (schema === "few" && rememberedBytes === 0) {
        const wal = Effect.map(
          admin.queryValues("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8"),
          ([row]) => Number(row?.[0])
        )
        const before = yield* wal
        const all = Array.from({ length: logins }, (_, index) => index)
        yield* Effect.forEach(all, (index) => login(store, `new-${index}`, 5, index), { concurrency: inFlight })
        bytes.wal = ((yield* wal) - before) / logins
      }
    }
  }
  const results = yield* Effect.promise(() => takeTurns(stores, rounds, 2))
  const of = (name: string, what: "p50" | "p99") => (results.get(name) ?? []).map((figures) => figures[what])
  console.table(
    Array.from(results.keys(), (name) => ({
      load: name,
      "p50 ms": range(of(name, "p50"), 2),
      "p99 ms": range(of(name, "p99"), 2)
    }))
  )
  const toFew = (name: string, what: "p50" | "p99", among = `many, ${name}`) =>
    ratios(of(among, what), of(`few, ${name}`, what))
  const figures = {
    sessions: [many],
    "p50, many to few, nothing remembered": toFew("nothing remembered", "p50"),
    "p99, many to few, nothing remembered": toFew("nothing remembered", "p99"),
    "p50, many to few, remembered": toFew("remembered", "p50"),
    "p50, any to few": toFew("nothing remembered", "p50", "any"),
    "bytes in tables": [bytes.table],
    "bytes in indexes": [bytes.indexes],
    "bytes of WAL by login": [bytes.wal]
  }
  console.table(Object.entries(figures).map(([name, values]) => ({ figure: name, value: range(values, 2) })))
  if (many === 10_000_000) publish("sessionsMany", figures)
}).pipe(Effect.scoped)

export const run = () => Effect.runPromise(program)
