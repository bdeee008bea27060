/**
 * Two users who try everything they are allowed to against a third: statements that burn, fill, lock and alter, answers that
 * nobody reads, wrong logins, half requests. What the third user notices of it, against a quiet service.
 *
 * The service runs with its embedded database and default settings, as `npm start` does. The third user reads the session, changes
 * its data, runs a query to its end and reads its rows, one after another. Every request of theirs must succeed, and every row must
 * be right.
 *
 * The attackers, the third user, the service and the database share the processors of one machine.
 * `HOLDFAST_BENCH_MINUTES` (default: 10) says how long the attack lasts; `HOLDFAST_BENCH_SEED` repeats one.
 */
import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { connect, type Socket } from "node:net"
import { setPriority } from "node:os"
import { type Answer, login, residentMb, start, unread, type User } from "./isolationWorld.ts"
import { quantile } from "./measure.ts"

const minutes = Number(process.env.HOLDFAST_BENCH_MINUTES ?? 10)
const quietSeconds = 20
const attackersEach = 6
const seed = Number(process.env.HOLDFAST_BENCH_SEED ?? Date.now() % 1_000_000)

let state = seed
const random = (below: number) => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
  return state % below
}
const pick = <A>(of: ReadonlyArray<A>): A => of[random(of.length)] as A

/** Statements that a user is allowed to send. */
const statements: ReadonlyArray<() => string> = [
  () => `select ('['||repeat('1,',${1 + random(8_000_000)})||'1]')::json`,
  () => `select ('['||repeat('1,',${1 + random(4_000_000)})||'1]')::jsonb`,
  () => `select repeat(chr(1),${random(16_000_000)})`,
  () => `select array_agg(n) from generate_series(1, ${random(2_000_000)}) n`,
  () => `select array_agg(repeat('"\\', 100)) from generate_series(1, ${random(50_000)}) n`,
  () => `select decode(repeat('00', ${random(8_000_000)}), 'hex')`,
  () => `select repeat('[', 6000)::text, (repeat('[', 6000)||repeat(']', 6000))::json`,
  () => `select n, md5(n::text) from generate_series(1, ${random(1_000_000)}) n`,
  () => `select count(*) from generate_series(1, ${random(30_000_000)}) n where md5(n::text) like 'x%'`,
  () => `with recursive r as (select 1 n union all select n + 1 from r) select max(n) from r limit 1`,
  () => `select pg_sleep(${random(100_000)})`,
  () => `do $$ begin for i in 1..${random(2_000_000)} loop raise log '%', repeat('x', 1000); end loop; end $$`,
  () => `do $$ begin for i in 1..${random(200_000)} loop raise notice '%', repeat('x', 1000); end loop; end $$`,
  () => `do $$ begin raise exception '%', repeat('x', ${random(15_000_000)}); end $$`,
  () => `select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()`,
  () => `select pg_cancel_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()`,
  () => `do $$ begin execute format('alter role %I set transaction_timeout = 1', session_user); end $$`,
  () => `do $$ begin execute format('alter role %I set search_path = evil, pg_catalog', session_user); end $$`,
  () => `do $$ begin execute format('alter role %I set default_transaction_read_only = on', session_user); end $$`,
  () => `do $$ begin execute format('alter role %I set idle_session_timeout = 1', session_user); end $$`,
  () => `do $$ begin execute format('alter role %I password %L', session_user, 'mine'); end $$`,
  () =>
    `do $$ begin execute format('alter role %I in database %I set statement_timeout = 1', session_user, current_database()); end $$`,
  () => `create schema if not exists evil`,
  () => `create or replace view evil.pg_stat_activity as select 1 as pid`,
  () => `create temporary table t as select repeat('x', 1000) from generate_series(1, ${random(500_000)})`,
  () =>
    `create table if not exists filler as select repeat(md5(n::text), 30) from generate_series(1, ${random(200_000)}) n`,
  () => `drop table if exists filler`,
  () => `drop schema public cascade`,
  () => `drop owned by current_user cascade`,
  () => `select pg_advisory_lock(${random(3)}), pg_sleep(${random(20)})`,
  () => `lock table pg_catalog.pg_class in access exclusive mode`,
  () => `listen everything`,
  () => `select pg_notify('everything', repeat('x', 7000)) from generate_series(1, ${random(1000)})`,
  () => `begin`,
  () => `set statement_timeout = 1`,
  () => `set session authorization postgres`,
  () => `discard all`,
  () => `deallocate all`,
  () => `prepare p as select 1`,
  () => `select * from pg_stat_activity`,
  () =>
    `select * from generate_series(1, ${random(20_000)}) a(x), generate_series(1, 20) b(y) order by md5(x::text || y::text)`,
  () => `reset all`
]

/** Half a request, and then nothing. */
const half = (url: string, streams: Set<Socket>) => {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.on("error", () => {})
  socket.on("close", () => streams.delete(socket))
  socket.write(
    `POST /login HTTP/1.1\r\nhost: ${hostname}:${port}\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{`
  )
  streams.add(socket)
  if (streams.size > 300) [...streams][0]?.destroy()
}

const attack = async (url: string, name: string, isOver: () => boolean, answers: Map<number, number>) => {
  const again = async (): Promise<User> => {
    // Wrong logins of others with the same name may have used up the tries.
    while (!isOver()) {
      const user = await login(url, name).catch(() => undefined)
      if (user !== undefined) return user
      await new Promise((resolve) => setTimeout(resolve, 2000))
    }
    throw new Error("It is over")
  }
  let user = await again()
  const streams = new Set<Socket>()
  const ids: Array<string> = []
  const pathOf = () =>
    pick([
      ...(ids.length === 0
        ? []
        : [`/queries/${pick(ids)}/rows?limit=10000`, `/queries/${pick(ids)}/events`, `/queries/${pick(ids)}`]),
      "/queries?limit=1000",
      "/session/data",
      "/sessions"
    ])
  const submit = async (body: unknown, headers?: Readonly<Record<string, string>>) => {
    const answer = await user.send("POST", "/queries", body, headers)
    const { id } = Object(answer.json) as { readonly id?: string }
    if (id !== undefined) ids.push(id)
    if (ids.length > 200) ids.splice(0, 100)
    return answer
  }
  const deeds: ReadonlyArray<() => Promise<Answer | void>> = [
    () => submit({ sql: pick(statements)() }),
    () => submit({ sql: pick(statements)() }),
    () => submit({ sql: pick(statements)() }),
    () => submit({ sql: `select ${"1 +".repeat(random(100_000))} 1` }),
    () => submit(`{"sql":"select $1","params":[${"[".repeat(5000)}${"]".repeat(5000)}]}`),
    () =>
      submit(
        { sql: "select $1::text", params: ["x".repeat(random(900_000))] },
        { "idempotency-key": randomBytes(8).toString("hex") }
      ),
    async () => unread(url, user.cookie(), pathOf(), streams),
    async () => unread(url, user.cookie(), pathOf(), streams),
    async () => half(url, streams),
    () => user.send("GET", pathOf().replace("events", "")),
    () => user.send("PATCH", "/session/data", { [`k${random(5)}`]: "x".repeat(random(12_000)) }),
    () => user.send("POST", "/login", { username: pick(["carol", name, "nobody"]), password: "wrong wrong wrong" }),
    () => user.send("DELETE", `/queries/${ids.length === 0 ? "none" : pick(ids)}`),
    () => user.send("DELETE", "/sessions"),
    () => user.send("GET", `/${"x".repeat(random(10_000))}`)
  ]
  while (!isOver()) {
    try {
      const answer = await Promise.race([pick(deeds)(), new Promise<void>((resolve) => setTimeout(resolve, 3000))])
      if (answer !== undefined) answers.set(answer.status, (answers.get(answer.status) ?? 0) + 1)
      if (answer?.status === 401) user = await again()
    } catch (error) {
      if (String(error).includes("No login of")) await new Promise((resolve) => setTimeout(resolve, 1000))
      answers.set(0, (answers.get(0) ?? 0) + 1)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
  for (const stream of streams) stream.destroy()
}

interface Seen {
  readonly latencies: Map<string, Array<number>>
  readonly failures: Map<string, number>
}

const live = async (user: User, isOver: () => boolean): Promise<Seen> => {
  const seen: Seen = { latencies: new Map(), failures: new Map() }
  const timed = async (what: string, work: () => Promise<string | undefined>) => {
    const began = performance.now()
    const problem = await work().catch((error: unknown) => String(error))
    const known = seen.latencies.get(what) ?? []
    seen.latencies.set(what, known)
    known.push(performance.now() - began)
    if (problem !== undefined)
      seen.failures.set(`${what}: ${problem}`, (seen.failures.get(`${what}: ${problem}`) ?? 0) + 1)
  }
  const be = (answer: Answer, status: number) =>
    answer.status === status ? undefined : `${answer.status} ${JSON.stringify(answer.json).slice(0, 200)}`
  let n = 0
  while (!isOver()) {
    n++
    await timed("GET /session", async () => be(await user.send("GET", "/session"), 200))
    await timed("PATCH /session/data", async () => be(await user.send("PATCH", "/session/data", { n }), 200))
    await timed("a query and its rows", async () => {
      const submitted = await user.send("POST", "/queries", {
        sql: "select g, g * $1::int from generate_series(1, 100) g",
        params: [n]
      })
      if (submitted.status !== 202) return be(submitted, 202)
      const { id } = submitted.json as { readonly id: string }
      for (;;) {
        const { json } = await user.send("GET", `/queries/${id}`)
        const { error, state } = json as { readonly state: string; readonly error: unknown }
        if (state === "Succeeded") break
        if (!["Queued", "Starting", "Running"].includes(state)) return `${state} ${JSON.stringify(error)}`
        await new Promise((resolve) => setTimeout(resolve, 2))
      }
      const page = await user.send("GET", `/queries/${id}/rows`)
      const { rows } = page.json as { readonly rows: ReadonlyArray<ReadonlyArray<number>> }
      return rows.length === 100 && rows[99]?.[1] === 100 * n ? undefined : "wrong rows"
    })
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return seen
}

/** The attackers, on an event loop of their own: what they read must not hold up the third user's client. */
const attackers = async (url: string, millis: number) => {
  const end = performance.now() + millis
  const isOver = () => performance.now() >= end
  const answers = new Map<number, number>()
  await Promise.all(
    ["alice", "bob"].flatMap((name) =>
      Array.from({ length: attackersEach }, () =>
        attack(url, name, isOver, answers).catch((error: unknown) => console.log(name, String(error)))
      )
    )
  )
  console.log("answers to the attackers:", Object.fromEntries([...answers].toSorted(([left], [right]) => left - right)))
}

const [, , role, url = "", millis = "0"] = process.argv
if (role === "--attack") {
  await attackers(url, Number(millis))
  process.exit(0)
}

export const run = async () => {
  console.log(`seed ${seed}, ${minutes} minutes`)
  const service = await start()
  const inMillis = (millis: number) => {
    const end = performance.now() + millis
    return () => performance.now() >= end || !service.isAlive()
  }
  try {
    const carol = await login(service.url, "carol")
    const quiet = await live(carol, inMillis(quietSeconds * 1000))
    const before = residentMb(service.pid)
    let most = before
    const watch = setInterval(() => {
      if (service.isAlive()) most = Math.max(most, residentMb(service.pid))
    }, 200)
    const attacking = spawn(
      process.execPath,
      [import.meta.filename, "--attack", service.url, String(minutes * 60_000)],
      { stdio: "inherit", env: { ...process.env, HOLDFAST_BENCH_SEED: String(seed) } }
    )
    // They would be on machines of their own.
    setPriority(attacking.pid ?? 0, 19)
    const storm = await live(carol, inMillis(minutes * 60_000))
    clearInterval(watch)
    if (attacking.exitCode === null) await once(attacking, "exit")
    for (const [what, latencies] of storm.latencies) {
      const [calm, wild] = [quiet.latencies.get(what) ?? [], latencies].map((all) =>
        [0.5, 0.99].map((q) => quantile(all, q))
      ) as [Array<number>, Array<number>]
      const text = (of: ReadonlyArray<number>) => of.map((ms) => `${ms.toFixed(1)} ms`).join(" / ")
      console.log(
        `${what}: ${latencies.length} times, quiet p50 / p99 ${text(calm)}, attacked ${text(wild)}, p99 ratio ${((wild[1] ?? 0) / (calm[1] ?? 1)).toFixed(1)}, most ${Math.max(...latencies).toFixed(0)} ms`
      )
    }
    const total = [...storm.latencies.values()].reduce((sum, { length }) => sum + length, 0)
    const failed = [...storm.failures.values()].reduce((sum, count) => sum + count, 0)
    console.log(`success ${(100 * (1 - failed / total)).toFixed(3)} %`)
    for (const [what, count] of storm.failures) console.log(`  ${count} × ${what}`)
    console.log(`resident memory: quiet ${before.toFixed(0)} MB, at most ${most.toFixed(0)} MB`)
    if (!service.isAlive()) console.log(`the service ended:\n${service.said().slice(-3000)}`)
  } finally {
    await service.stop()
  }
}
