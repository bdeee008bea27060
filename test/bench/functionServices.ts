/**
 * The service while scripts loop for ever: how soon they stop when it is told to end, and what its event loop notices of them.
 *
 * Services, clients and database share the processors of one machine.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as Threads from "../support/threads.ts"
import { login, until, type User } from "./isolationWorld.ts"
import { quantile } from "./measure.ts"

const password = "correct horse battery staple"
const loop = `export default () => { console.log("on"); for (;;); }`

const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

/** An instance on a database. */
export const serve = async (url: string, env: Readonly<Record<string, string>> = {}) => {
  const program = new URL("../../src/bin.ts", import.meta.url).pathname
  const child = spawn(process.execPath, [program, "serve"], {
    env: {
      PATH: process.env.PATH ?? "",
      HOME: process.env.HOME ?? "/",
      PORT: "0",
      DATABASE_URL: url,
      HOLDFAST_ORIGIN: "http://localhost:3000",
      HOLDFAST_DEMO_PASSWORD: password,
      HOLDFAST_FUNCTIONS: "on",
      ...env
    },
    stdio: ["ignore", "pipe", "inherit"]
  })
  let said = ""
  child.stdout.on("data", (chunk: Buffer) => (said += String(chunk)))
  const address = await until(() => /Holdfast listening on (\S+)/.exec(said)?.[1])
  for (;;) {
    if ((await fetch(`${address}/health/ready`)).status === 200) break
    await pause(50)
  }
  const ended = () => (child.exitCode === null && child.signalCode === null ? once(child, "exit") : undefined)
  return {
    address,
    pid: child.pid ?? 0,
    signal: (name: NodeJS.Signals) => child.kill(name),
    ended,
    stop: async () => {
      child.kill("SIGTERM")
      await ended()
    }
  }
}

/** Databases of a server of its own, until it is closed. */
export const databases = async () => {
  const scope = await Effect.runPromise(Scope.make())
  const within = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.runPromise(Scope.provide(effect, scope))
  const { superuserUrl } = await within(TestPostgres.make({ maxConnections: 500 }))
  const connection = await within(PgConnection.make({ url: superuserUrl }))
  return {
    within,
    make: async (name: string) => {
      await within(connection.query(`create database ${name}`))
      const url = new URL(Redacted.value(superuserUrl))
      url.pathname = `/${name}`
      return url.href
    },
    close: () => Effect.runPromise(Scope.close(scope, Exit.void))
  }
}

/** Executes a script so many times, without waiting for an outcome. */
const executions = async ({ send }: User, count: number, timeoutMs: number) => {
  const made = await send("POST", "/functions", { language: "javascript", script: loop })
  const { id } = made.json as { readonly id: string }
  const ids: Array<string> = []
  for (let n = 0; n < count; n++) {
    const { json, status } = await send("POST", `/functions/${id}/executions`, { wait: 0, timeoutMs })
    if (status !== 202) throw new Error(`Not taken in: ${status} ${JSON.stringify(json)}`)
    ids.push((json as { readonly id: string }).id)
  }
  return ids
}

const isRunning = async ({ send }: User, id: string) => {
  const { json } = await send("GET", `/executions/${id}`)
  return (json as { readonly console: ReadonlyArray<unknown> }).console.length > 0
}

/** Waits until so many of them run. */
const running = async (user: User, ids: ReadonlyArray<string>, count: number) => {
  for (;;) {
    const found = await Promise.all(ids.map((id) => isRunning(user, id)))
    if (found.filter(Boolean).length >= count) return
    await pause(100)
  }
}

const of = (times: ReadonlyArray<number>) => ({
  "p50 ms": quantile(times, 0.5).toFixed(0),
  "p99 ms": quantile(times, 0.99).toFixed(0),
  "max ms": quantile(times, 1).toFixed(0)
})

const tries = Number(process.env.HOLDFAST_BENCH_STOPS ?? 200)
const loopsPerService = 8
const servicesAtOnce = 3

/** A service in which scripts loop for ever, and the threads that run them. */
const looping = async (url: string, env: Readonly<Record<string, string>>) => {
  const service = await serve(url, { HOLDFAST_MAX_EXECUTIONS: String(2 * loopsPerService), ...env })
  const user = await login(service.address, "demo")
  await running(user, await executions(user, loopsPerService, 120_000), loopsPerService)
  return { service, user }
}

/**
 * SIGTERM while scripts loop for ever: the time until their threads use no processor time any more, and until the process is gone;
 * without other work, and beside a query that does not end by itself. Some services run at a time, and get the signal together.
 */
export const signals = async () => {
  const { close, make } = await databases()
  const url = await make("signals")
  const queries = await make("queries")
  const rows: Array<object> = []
  for (const beside of ["nothing", "a query that does not end"]) {
    const env = {
      HOLDFAST_QUERY_URL: queries,
      HOLDFAST_QUERY_SUPERUSER: "allow",
      HOLDFAST_FUNCTION_TIMEOUT: "2 minutes"
    }
    const [stopped, gone]: [Array<number>, Array<number>] = [[], []]
    while (stopped.length < tries) {
      const services = await Promise.all(Array.from({ length: servicesAtOnce }, () => looping(url, env)))
      const watched = await Promise.all(
        services.map(async ({ service, user }) => {
          if (beside !== "nothing") {
            const { status } = await user.send("POST", "/queries", { sql: "select pg_sleep(60)" })
            if (status !== 202) throw new Error(`No query: ${status}`)
          }
          return { service, threads: await Threads.busiest(service.pid, loopsPerService) }
        })
      )
      await Promise.all(
        watched.map(async ({ service, threads }) => {
          const begun = performance.now()
          const ended = Promise.resolve(service.ended())
          service.signal("SIGTERM")
          stopped.push(...(await Threads.lastUses(service.pid, threads, ended)))
          gone.push(performance.now() - begun)
        })
      )
    }
    rows.push({ beside, what: "loop stopped", tries: stopped.length, ...of(stopped) })
    rows.push({ beside, what: "process gone", tries: gone.length, ...of(gone) })
  }
  console.table(rows)
  await close()
}

interface Delay {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** The event loop's delay of the service: idle, while 100 scripts loop for ever at its usual number of places, and all at once. */
export const serviceLoop = async () => {
  const { close, make } = await databases()
  const directory = mkdtempSync(join(tmpdir(), "holdfast-delay-"))
  const rows: Array<object> = []
  for (const [places, runs] of [
    ["usual", 2],
    ["256", 100]
  ] as const) {
    const file = join(directory, places)
    const service = await serve(await make(`loop_${places}`), {
      NODE_OPTIONS: `--import=${new URL("loopDelayProgram.ts", import.meta.url).pathname}`,
      HOLDFAST_BENCH_DELAY: file,
      HOLDFAST_FUNCTION_TIMEOUT: "10 minutes",
      ...(places !== "usual" && { HOLDFAST_MAX_EXECUTIONS: places })
    })
    /** The delay of the loop for some seconds, while somebody asks for something every 20 ms. */
    const delay = async (user: User): Promise<Delay & { readonly answers: ReadonlyArray<number> }> => {
      const told = async () => {
        rmSync(file, { force: true })
        service.signal("SIGUSR2")
        return await until(() => {
          try {
            return JSON.parse(readFileSync(file, "utf8")) as Delay
          } catch {
            return undefined
          }
        })
      }
      await told()
      const answers: Array<number> = []
      for (const until = performance.now() + 5000; performance.now() < until;) {
        const begun = performance.now()
        await user.send("GET", "/session")
        answers.push(performance.now() - begun)
        await pause(20)
      }
      return { ...(await told()), answers }
    }
    const row = (scripts: string, { answers, max, p50, p99 }: Awaited<ReturnType<typeof delay>>) =>
      rows.push({
        places,
        scripts,
        "p50 ms": p50.toFixed(1),
        "p99 ms": p99.toFixed(1),
        "max ms": max.toFixed(1),
        "answer p99 ms": quantile(answers, 0.99).toFixed(0)
      })
    const user = await login(service.address, "demo")
    row("none", await delay(user))
    // At most 100 of one user wait.
    const ids = await executions(user, 100, 600_000)
    await running(user, ids, runs)
    row(`100 loop for ever, ${runs} at a time`, await delay(user))
    const begun = performance.now()
    await service.stop()
    rows.push({
      places,
      scripts: "SIGTERM with those, until it is gone",
      "max ms": (performance.now() - begun).toFixed(0)
    })
  }
  console.table(rows)
  rmSync(directory, { recursive: true, force: true })
  await close()
}
