/**
 * What a request pays for its session, against connect-pg-simple and against a bare select: one real PostgreSQL on the
 * loopback address, nothing synced to disk, 10 connections and 256 requests in flight for each.
 *
 * - *load*: one of 10,000 live sessions, at random. Holdfast's `load` is load and touch in one; connect-pg-simple's `get` is
 *   followed by its `touch`, as `express-session` does for every request. The two selects, prepared, fetch the session of
 *   connect-pg-simple's table by its key and write nothing.
 * - *touch*: all 10,000 sessions, each of them due, as often as they are; how many of the writes are heap-only updates, which
 *   leave every index alone.
 *
 * The server shares the processors with the client, so only ratios mean something. The time of the processors is that of
 * this process and that of the contender's connections on the server.
 */
import { randomBytes } from "node:crypto"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import { contenders } from "./contenders/install.ts"
import { publish } from "./record.ts"
import { range } from "./measure.ts"
import { compare, cookieOf, createAll, dataOf, inFlight, live, ours, type Round, theirs } from "./sessionLoads.ts"

const connections = 10
const [warmTouches, touches] = [3, 10]
const lists = 5

export const run = async () => {
  const packages = contenders()
  const scope = await Effect.runPromise(Scope.make())
  const within = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.runPromise(Scope.provide(effect, scope))
  const closing = (close: () => Promise<unknown>) => within(Effect.addFinalizer(() => Effect.promise(close)))
  const { superuserUrl: url } = await within(TestPostgres.make())
  const connectionString = Redacted.value(url)
  const named = (name: string) => `${connectionString}?application_name=${name}`
  const admin = await within(PgConnection.make({ url }))

  await Effect.runPromise(PgSessionStore.migrate({ url }))
  const open = (applicationName: string, rememberedBytes?: number) =>
    Effect.map(
      Layer.build(
        Layer.fresh(PgSessionStore.layer({ url, applicationName, rememberedBytes, maxConnections: connections }))
      ),
      (context) => Context.get(context, SessionStore)
    )
  const store = await within(open("holdfast"))
  const forgetful = await within(open("holdfast, nothing remembered", 0))
  const tokens = await createAll(store)

  // Each with a pool of its own, so that nobody inherits what another one prepared or left unread.
  const poolOf = async (name: string) => {
    const pool = new packages.pg.Pool({ connectionString: named(name), max: connections })
    await closing(() => pool.end())
    return pool
  }
  const simple = new packages.connectPgSimple({
    pool: await poolOf("connect-pg-simple"),
    createTableIfMissing: true,
    pruneSessionInterval: false
  })
  const ids = Array.from({ length: live }, () => randomBytes(24).toString("base64url"))
  const idOf = (index: number) => ids[index] ?? ""
  const called = <A>(call: (done: (error: unknown, value?: A) => void) => void) =>
    new Promise<A | undefined>((resolve, reject) => {
      call((error, value) => (error ? reject(error as Error) : resolve(value)))
    })
  await Promise.all(
    ids.map((id, index) => called((done) => simple.set(id, { cookie: cookieOf(), ...dataOf(index) }, done)))
  )
  await Effect.runPromise(admin.query("vacuum analyze"))

  const pool = await poolOf("pg")
  const sql = packages.postgres(named("postgres"), { max: connections })
  await closing(() => sql.end())
  const select = "select sess from session where sid = $1 and expire >= now()"
  const entries: Readonly<Record<string, Round>> = {
    holdfast: ours(store, tokens),
    "holdfast, nothing remembered": ours(forgetful, tokens),
    "connect-pg-simple": theirs(async (index) => {
      const found = await called<unknown>((done) => simple.get(idOf(index), done))
      await called((done) => simple.touch(idOf(index), { cookie: cookieOf() }, done))
      return found
    }),
    pg: theirs(async (index) => {
      const { rows } = await pool.query({ name: "select", text: select, values: [idOf(index)] })
      return rows[0]?.["sess"]
    }),
    postgres: theirs(async (index) => {
      const [row] = await sql`select sess from session where sid = ${idOf(index)} and expire >= now()`
      return row?.["sess"]
    })
  }

  const figures = await compare(entries, async (name) => {
    const named = "select pid from pg_stat_activity where application_name = $1"
    return (await Effect.runPromise(admin.queryValues(named, [name]))).map(([pid]) => Number(pid))
  })

  // They are all one user's from now on.
  await Effect.runPromise(admin.query("update holdfast.sessions set principal = 'crowd'"))
  await Effect.runPromise(admin.query("vacuum analyze holdfast.sessions"))
  const listing: Array<number> = []
  for (let round = 0; round < lists; round++) {
    const begun = performance.now()
    const { length } = await Effect.runPromise(store.list("crowd"))
    if (length !== live) throw new Error(`A list of ${length} sessions`)
    listing.push(performance.now() - begun)
  }
  console.table([{ list: `${live} sessions of one user`, ms: range(listing, 0) }])
  publish("sessions", { ...figures, "list of 10,000, ms": listing })

  // From now on their touch interval is two seconds; each round begins when the last touch of the one before is due.
  await Effect.runPromise(
    admin.query("update holdfast.sessions set idle_timeout = '20 seconds', last_seen_at = now() - interval '3 seconds'")
  )
  await Effect.runPromise(admin.query("vacuum holdfast.sessions"))
  const touching = []
  for (let round = 0; round < warmTouches + touches; round++) {
    const before = await writes(admin)
    const begun = performance.now()
    await Effect.runPromise(Effect.forEach(tokens, store.load, { concurrency: inFlight, discard: true }))
    const millis = performance.now() - begun
    await Effect.runPromise(Effect.sleep("2100 millis"))
    const after = await writes(admin, before.all + live)
    touching.push({
      rate: (live * 1000) / millis,
      share: (after.heapOnly - before.heapOnly) / (after.all - before.all)
    })
  }
  const steady = touching.slice(warmTouches)
  const rate = range(
    steady.map(({ rate }) => rate),
    0
  )
  console.table([{ touch: "holdfast", "a second": rate, "heap-only %": range(steady.map(({ share }) => share * 100)) }])

  await Effect.runPromise(Scope.close(scope, Exit.void))
}

/** The updates of sessions so far, once the server has counted that many; it counts what a connection did with a delay. */
const writes = (admin: PgConnection.PgConnection, least = 0) =>
  Effect.runPromise(
    Effect.repeat(
      Effect.map(
        admin.queryValues(
          "select n_tup_upd::float8, n_tup_hot_upd::float8 from pg_stat_user_tables where relname = 'sessions'"
        ),
        ([row]) => ({ all: Number(row?.[0]), heapOnly: Number(row?.[1]) })
      ),
      { until: ({ all }) => all >= least }
    )
  )
