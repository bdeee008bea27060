/**
 * Three instances of the service behind nginx, under load, and one fault after the other: what becomes of the queries. It is run by
 * hand, `HOLDFAST_BENCH_PART=chaos npm run bench -- shared`, and takes half a minute for each fault; `HOLDFAST_BENCH_FAULTS` names
 * those to try, with commas between.
 *
 * The journal and the queries are on servers of their own, and each instance reaches each through a proxy that misbehaves. The clock of
 * the third is an hour ahead. Each query writes a row with its key, every fourth may run twice. Clients send what was not
 * answered again, with the same key. With `HOLDFAST_BENCH_OLDER`, the file `src/bin.ts` of an older checkout, the second and third
 * begin as that version, and are this one when they are started again: `rolling` is an upgrade then.
 *
 * - *lost*: without an outcome a minute after the fault, unknown to an instance, or succeeded without a row.
 * - *two outcomes*: told differently by two instances or at two times.
 * - *twice*: two rows, though it may not run twice.
 * - *late*: states after the outcome.
 * - *untrue*: has written something, though its error says that it has not.
 * - *backends*: statements that run when all queries are over.
 * - *taken over*: seconds from the fault until another instance tells the outcome of a statement that ran at the victim.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import * as SkewedClock from "../../src/testing/SkewedClock.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as Browser from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import { freePort } from "../../src/embedded/FreePort.ts"
import * as Nginx from "../support/nginx.ts"
import * as Service from "../support/service.ts"

type Within = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Promise<A>

interface Instance {
  readonly url: string
  readonly store: FaultProxy.FaultProxy
  readonly queries: FaultProxy.FaultProxy
  readonly start: () => Promise<void>
  program: Service.Program
}

interface World {
  readonly within: Within
  readonly instances: ReadonlyArray<Instance>
  readonly store: TestPostgres.TestPostgres["Service"]
  readonly databases: TestPostgres.TestPostgres["Service"]
  readonly front: string
  readonly ask: (sql: string) => Promise<ReadonlyArray<ReadonlyArray<unknown>>>
}

const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

const freeze = (...links: ReadonlyArray<FaultProxy.FaultProxy>) =>
  Effect.forEach(
    links,
    (link) =>
      Effect.andThen(
        link.decide(() => "swallow"),
        link.freeze
      ),
    { discard: true }
  )
const thaw = (...links: ReadonlyArray<FaultProxy.FaultProxy>) =>
  Effect.forEach(
    links,
    (link) =>
      Effect.andThen(
        link.decide(() => "pass"),
        link.thaw
      ),
    { discard: true }
  )

/** What happens to the first instance, or to what all of them need; and what is put right again. */
const faults: Readonly<Record<string, (world: World, victim: Instance) => Promise<void>>> = {
  nothing: () => sleep(6000),
  kill: async ({ within }, victim) => {
    await within(Effect.andThen(victim.program.signal("SIGKILL"), victim.program.exited))
    await sleep(8000)
    await victim.start()
  },
  pause: async ({ within }, victim) => {
    await within(victim.program.signal("SIGSTOP"))
    await sleep(20_000)
    await within(victim.program.signal("SIGCONT"))
  },
  store: async ({ within }, victim) => {
    await within(freeze(victim.store))
    await sleep(15_000)
    await within(thaw(victim.store))
  },
  queries: async ({ within }, victim) => {
    await within(freeze(victim.queries))
    await sleep(15_000)
    await within(thaw(victim.queries))
  },
  both: async ({ within }, victim) => {
    await within(freeze(victim.store, victim.queries))
    await sleep(15_000)
    await within(thaw(victim.store, victim.queries))
  },
  restart: async ({ store, within }) => {
    await sleep(2000)
    await within(store.restart)
    await sleep(5000)
  },
  crash: async ({ store, within }) => {
    await sleep(2000)
    await within(store.kill)
    await sleep(8000)
    await within(store.start)
    await sleep(3000)
  },
  "crash of queries": async ({ databases, within }) => {
    await sleep(2000)
    await within(databases.kill)
    await sleep(5000)
    await within(databases.start)
    await sleep(3000)
  },
  rolling: async ({ instances, within }) => {
    for (const instance of instances) {
      await within(Effect.andThen(instance.program.signal("SIGTERM"), instance.program.exited))
      await instance.start()
    }
  }
}

/** Those in which a statement at the first instance loses its owner. */
const takesOver = new Set(["kill", "pause", "store", "both"])

interface Submitted {
  readonly key: string
  readonly id: string
  readonly rerun: boolean
  first: Told | undefined
}

interface Told {
  readonly state: string
  readonly transitions: ReadonlyArray<{ readonly state: string }>
  readonly error: { readonly code: string; readonly written?: string } | null
}

const terminal = new Set(["Succeeded", "Failed", "Canceled"])

const client = (cookie: string, origin: string) => {
  const send = async (url: string, path: string, json?: unknown, headers: Record<string, string> = {}) => {
    try {
      const answer = await fetch(`${url}${path}`, {
        method: json === undefined ? "GET" : "POST",
        headers: { cookie, origin, ...(json !== undefined && { "content-type": "application/json" }), ...headers },
        body: json === undefined ? null : JSON.stringify(json),
        signal: AbortSignal.timeout(4000)
      })
      return { status: answer.status, json: (await answer.json()) as unknown }
    } catch {
      return { status: 0, json: undefined }
    }
  }
  const submit = async (url: string, sql: string, key: string, rerun: boolean) => {
    for (;;) {
      const { json, status } = await send(url, "/queries", { sql, rerun }, { "idempotency-key": key })
      if (status === 202) return (json as { readonly id: string }).id
      if (status === 400 || status === 409) throw new Error(`A submission was answered with ${status}`)
      await sleep(status === 429 ? 300 : 100)
    }
  }
  /** Undefined where nobody can say now, null of a query that there is not. */
  const status = async (url: string, id: string): Promise<Told | null | undefined> => {
    const { json, status } = await send(url, `/queries/${id}`)
    return status === 200 ? (json as Told) : status === 404 ? null : undefined
  }
  const outcome = async (url: string, id: string, limit: number) => {
    const until = performance.now() + limit
    for (;;) {
      const told = await status(url, id)
      if (told === null || (told !== undefined && terminal.has(told.state))) return told
      if (performance.now() > until) return undefined
      await sleep(told === undefined ? 100 : 30)
    }
  }
  const running = async (url: string, id: string) => {
    while ((await status(url, id))?.state !== "Running") await sleep(20)
  }
  return { submit, running, outcome }
}

const attempt = async (world: World, name: string, number: number) => {
  const { ask, front, instances, within } = world
  const [victim, other] = instances
  const fault = faults[name]
  if (fault === undefined || victim === undefined || other === undefined) throw new Error(`There is no fault ${name}`)
  await within(
    Effect.scoped(
      Effect.flatMap(PgConnection.make({ url: world.store.superuserUrl, database: "own" }), (it) =>
        it.query(
          `insert into holdfast.users (name, password_hash, operator) select 'user ${number}', password_hash, false from holdfast.users where name = 'demo'`
        )
      )
    )
  )
  const { cookies } = await within(
    Browser.login(Browser.make(front), { username: `user ${number}`, password: Service.demoPassword })
  )
  const { outcome, running, submit } = client(
    Array.from(cookies, ([name, value]) => `${name}=${value}`).join("; "),
    front
  )
  const all: Array<Submitted> = []
  const until = { isOver: false }
  const load = async () => {
    for (let at = 0; !until.isOver; at++) {
      const key = randomUUID()
      const rerun = at % 4 === 3
      const seconds = (0.05 + Math.random() * 0.6).toFixed(2)
      const id = await submit(front, `insert into effects select '${key}' from pg_sleep(${seconds})`, key, rerun)
      const query: Submitted = { key, id, rerun, first: undefined }
      all.push(query)
      // A client asks while its patience lasts; all are asked in the end.
      query.first = (await outcome(front, id, 3000)) ?? undefined
    }
  }
  const clients = Array.from({ length: 8 }, load)
  await sleep(2000)
  const sentinel = takesOver.has(name)
    ? await submit(victim.url, "select pg_sleep(90)", randomUUID(), false)
    : undefined
  if (sentinel !== undefined) await running(victim.url, sentinel)
  const begun = performance.now()
  const watched =
    sentinel === undefined
      ? Promise.resolve(undefined)
      : outcome(other.url, sentinel, 30_000).then((told) => ({ told, seconds: (performance.now() - begun) / 1000 }))
  await fault(world, victim)
  const takeover = await watched
  await Promise.all(
    instances.map(({ url }) =>
      within(eventually(Browser.make(url).send("GET", "/health/ready"), (it) => it.status === 200, "1 minute"))
    )
  )
  await sleep(2000)
  until.isOver = true
  await Promise.all(clients)

  const counts = { lost: 0, "two outcomes": 0, twice: 0, late: 0, untrue: 0 }
  const states: Record<string, number> = {}
  const effects = new Map(
    (await ask("select key, count(*)::int from effects group by key")).map(([key, count]) => [
      String(key),
      Number(count)
    ])
  )
  for (const { first, id, key, rerun } of all) {
    const told = await Promise.all(instances.map(({ url }) => outcome(url, id, 60_000)))
    const [one] = told
    if (one === null || one === undefined || told.some((each) => each === null || each === undefined)) {
      counts.lost++
      continue
    }
    states[one.state] = (states[one.state] ?? 0) + 1
    const texts = new Set(
      [...told, ...(first === undefined || first === null ? [] : [first])].map((it) =>
        JSON.stringify([it?.state, it?.error, it?.transitions])
      )
    )
    if (texts.size > 1) counts["two outcomes"]++
    const rows = effects.get(key) ?? 0
    if (one.state === "Succeeded" && rows === 0) counts.lost++
    if (rows > 1 && !rerun) counts.twice++
    if (one.transitions.filter(({ state }) => terminal.has(state)).length !== 1) counts.late++
    if (one.state !== "Succeeded" && rows > 0 && one.error?.written === undefined) counts.untrue++
  }
  const [[backends]] = (await ask(
    "select count(*)::int from pg_stat_activity where usename = 'app' and state <> 'idle' and backend_type = 'client backend' and pid <> pg_backend_pid()"
  )) as [[number]]
  return {
    fault: name,
    queries: all.length,
    Succeeded: states["Succeeded"] ?? 0,
    Failed: states["Failed"] ?? 0,
    ...counts,
    backends,
    "taken over s": takeover === undefined ? "" : `${takeover.seconds.toFixed(1)} ${takeover.told?.state ?? "never"}`
  }
}

/** An instance that reaches its databases through proxies. */
const instance = Effect.fnUntraced(function* (
  env: Service.Environment,
  links: { readonly store: Redacted.Redacted; readonly queries: Redacted.Redacted },
  port: number,
  within: Within,
  first?: string
) {
  const store = yield* FaultProxy.to(links.store)
  const queries = yield* FaultProxy.to(links.queries)
  const start = Effect.fnUntraced(function* (file?: string) {
    const program = yield* Service.launch({
      args: ["serve"],
      program: file,
      env: {
        ...env,
        PORT: String(port),
        DATABASE_URL: Redacted.value(store.url),
        HOLDFAST_QUERY_URL: Redacted.value(queries.url)
      }
    })
    yield* Service.ready(yield* Service.listening(program))
    return program
  })
  const made: Instance = {
    url: `http://127.0.0.1:${port}`,
    store,
    queries,
    program: yield* start(first),
    start: async () => {
      made.program = await within(start())
    }
  }
  return made
})

export const run = async (_: Redacted.Redacted<string>, within: Within) => {
  const store = await within(TestPostgres.make({ maxConnections: 200 }))
  const databases = await within(TestPostgres.make({ maxConnections: 200 }))
  const administer = (server: typeof store, sql: string, database?: string) =>
    within(
      Effect.scoped(
        Effect.flatMap(PgConnection.make({ url: server.url(database) }), (it) => it.queryValues(sql, [], false))
      )
    )
  await administer(store, "create database own")
  await administer(databases, "create role app login password 'app'")
  await administer(databases, "create database work owner app")
  await administer(databases, "create table effects (key text)", "work")
  await administer(databases, "grant all on effects to app", "work")
  const work = new URL(Redacted.value(databases.url("work")))
  work.username = "app"
  work.password = "app"
  const ports = await within(Effect.all([freePort, freePort, freePort]))
  const nginx = await within(Nginx.make(ports, "proxy_connect_timeout 1s; proxy_read_timeout 3s;"))
  const front = `http://127.0.0.1:${nginx.port}`
  const env = {
    HOLDFAST_DEMO_PASSWORD: Service.demoPassword,
    HOLDFAST_ORIGIN: front,
    HOLDFAST_MAX_QUERIES: "6",
    HOLDFAST_MAX_QUERIES_PER_USER: "5"
  }
  const links = { store: store.url("own"), queries: Redacted.make(work.href) }
  const instances: Array<Instance> = []
  for (const [at, port] of ports.entries()) {
    const clock = at === 2 ? SkewedClock.environment("1 hour") : {}
    // The newer one comes first, so that the older ones find its tables.
    const program = at === 0 ? undefined : process.env.HOLDFAST_BENCH_OLDER
    instances.push(await within(instance({ ...env, ...clock }, links, port, within, program)))
  }
  const ask = (sql: string) => administer(databases, sql, "work")
  const wanted = process.env.HOLDFAST_BENCH_FAULTS?.split(",") ?? Object.keys(faults)
  const found: Array<object> = []
  for (const [at, name] of wanted.entries()) {
    found.push(await attempt({ within, instances, store, databases, front, ask }, name, at))
    console.log(JSON.stringify(found.at(-1)))
  }
  console.table(found)
}
