/**
 * The console in Chromium: what a page load costs, in the measures of Lighthouse, and how many frames a second it draws while 200
 * queries run.
 *
 * A page load is measured by the browser itself (Paint Timing, Largest Contentful Paint, Long Tasks, Layout Instability): the first
 * visit with an empty cache, and the console of somebody who is logged in, reloaded. "Phone" is Lighthouse's slow network of a phone
 * and a processor four times as slow. The time that blocks is what tasks took beyond 50 ms each after the first paint.
 *
 * Of the 200 queries all really run, each on a connection of its own, and twenty a second more begin and end meanwhile. Frames are
 * counted at rest at the head of the list, and while the list is scrolled. What the page takes of its one thread is the processor's
 * time, which other work on the machine disturbs less than it does the frames. `--live` measures these queries only.
 *
 * Browser, service, database and load share the processors of one machine, and the browser draws without a graphics card.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Browser, CDPSession, Page } from "playwright-core"
import { build } from "vite"
import { freePort } from "../../src/embedded/FreePort.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as Chromium from "../support/chromium.ts"
import { serve } from "./functionServices.ts"
import { login } from "./isolationWorld.ts"
import { range } from "./measure.ts"

const password = "correct horse battery staple"
const rounds = 5
const running = 200
const seconds = 5

const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

/** What the browser says of a page's load, once nothing comes any more. */
const timings = `(async () => {
  const seen = (type) => new Promise((resolve) => {
    const entries = []
    const observer = new PerformanceObserver((list) => entries.push(...list.getEntries()))
    observer.observe({ type, buffered: true })
    setTimeout(() => { observer.disconnect(); resolve(entries) }, 500)
  })
  const [paints, largest, tasks, shifts] = await Promise.all(["paint", "largest-contentful-paint", "longtask", "layout-shift"].map(seen))
  const first = paints.find(({ name }) => name === "first-contentful-paint")?.startTime ?? NaN
  return {
    first,
    largest: largest.at(-1)?.startTime ?? NaN,
    blocked: tasks.filter(({ startTime }) => startTime >= first).reduce((sum, { duration }) => sum + Math.max(0, duration - 50), 0),
    shift: shifts.filter(({ hadRecentInput }) => !hadRecentInput).reduce((sum, { value }) => sum + value, 0)
  }
})()`

interface Load {
  readonly first: number
  readonly largest: number
  readonly blocked: number
  readonly shift: number
  readonly kilobytes: number
}

const slow = {
  /** Lighthouse's "slow 4G": 150 ms there and back, 1.6 Mbit/s down, 750 kbit/s up. */
  network: { offline: false, latency: 150, downloadThroughput: 204_800, uploadThroughput: 96_000 },
  processor: 4
}

const load = async (page: Page, go: () => Promise<unknown>, there: () => Promise<unknown>, isPhone: boolean) => {
  const session = await page.context().newCDPSession(page)
  let bytes = 0
  session.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength))
  await session.send("Network.enable")
  if (isPhone) {
    await session.send("Network.emulateNetworkConditions", slow.network)
    await session.send("Emulation.setCPUThrottlingRate", { rate: slow.processor })
  }
  await go()
  await there()
  await pause(1000)
  const told = (await page.evaluate(timings)) as Omit<Load, "kilobytes">
  await session.detach()
  return { ...told, kilobytes: bytes / 1000 }
}

const enter = async (page: Page) => {
  await page.getByLabel("User name").fill("demo")
  await page.getByLabel("Password").fill(password)
  await page.getByRole("button", { name: "Log in" }).click()
  await page.getByRole("textbox", { name: "SQL" }).waitFor()
}

/** A first visit with nothing kept, and a reload with everything kept. */
const loads = async (browser: Browser, url: string, isPhone: boolean) => {
  const context = await browser.newContext({
    locale: "en-US",
    viewport: isPhone ? { width: 390, height: 844 } : { width: 1280, height: 800 }
  })
  const page = await context.newPage()
  const visit = await load(
    page,
    () => page.goto(`${url}/console`),
    () => page.getByLabel("User name").waitFor(),
    isPhone
  )
  await enter(page)
  const reload = await load(
    page,
    () => page.reload(),
    () => page.getByRole("textbox", { name: "SQL" }).waitFor(),
    isPhone
  )
  await context.close()
  return { visit, reload }
}

const shown = (name: string, all: ReadonlyArray<Load>) => ({
  load: name,
  "first paint, ms": range(
    all.map(({ first }) => first),
    0
  ),
  "largest paint, ms": range(
    all.map(({ largest }) => largest),
    0
  ),
  "blocked, ms": range(
    all.map(({ blocked }) => blocked),
    0
  ),
  "layout shift": range(
    all.map(({ shift }) => shift),
    3
  ),
  kilobytes: range(
    all.map(({ kilobytes }) => kilobytes),
    0
  )
})

/** The frames of some seconds, and the longest time between two of them. */
const frames = (page: Page, each = "") =>
  page.evaluate(`new Promise((done) => {
    const began = performance.now()
    let [count, last, longest] = [0, began, 0]
    const next = (now) => {
      longest = Math.max(longest, now - last)
      last = now
      if (now - began >= ${seconds * 1000}) return done({ count, longest })
      count++
      ${each}
      requestAnimationFrame(next)
    }
    requestAnimationFrame(next)
  })`) as Promise<{ readonly count: number; readonly longest: number }>

/** What the thread of the page did so far, in milliseconds. */
const busy = async (session: CDPSession) => {
  const { metrics } = await session.send("Performance.getMetrics")
  const of = (wanted: string) => 1000 * (metrics.find(({ name }) => name === wanted)?.value ?? NaN)
  return {
    all: of("TaskDuration"),
    script: of("ScriptDuration"),
    style: of("RecalcStyleDuration"),
    layout: of("LayoutDuration")
  }
}
type Busy = Awaited<ReturnType<typeof busy>>

/** Frames as {@link frames} counts them, and what the thread of the page did meanwhile, in milliseconds a second. */
const watched = async (page: Page, session: CDPSession, each?: string) => {
  const before = await busy(session)
  const seen = await frames(page, each)
  const after = await busy(session)
  const of = (what: keyof Busy) => (after[what] - before[what]) / seconds
  return { ...seen, all: of("all"), script: of("script"), style: of("style"), layout: of("layout") }
}

const scroll = "document.querySelector('[role=rowgroup]').scrollTop = (now - began) % 4000 * 2"

const live = async (browser: Browser, url: string) => {
  const user = await login(url, "demo")
  const submit = (sql: string) => user.send("POST", "/queries", { sql })
  const context = await browser.newContext({ locale: "en-US" })
  const page = await context.newPage()
  await page.goto(`${url}/console`)
  await enter(page)
  await page.getByRole("navigation").getByRole("link", { name: "Queries" }).click()
  for (let n = 0; n < running; n++) {
    const { status } = await submit(`select pg_sleep(600), ${n}`)
    if (status >= 300) throw new Error(`Not submitted: ${status}`)
  }
  await page.getByLabel("State").selectOption("Running")
  await page.getByText(new RegExp(`^${running} of ${running} queries$`)).waitFor()
  await page.getByLabel("State").selectOption("")
  const timer = setInterval(() => void submit("select pg_sleep(0.2)").catch(() => undefined), 50)
  const session = await context.newCDPSession(page)
  await session.send("Performance.enable")
  type Watched = Awaited<ReturnType<typeof watched>>
  const seen: { readonly rest: Array<Watched>; readonly scrolled: Array<Watched> } = { rest: [], scrolled: [] }
  for (let round = 0; round < rounds; round++) {
    seen.rest.push(await watched(page, session))
    seen.scrolled.push(await watched(page, session, scroll))
  }
  clearInterval(timer)
  const { json } = await user.send("GET", "/queries?limit=1000")
  for (const { id, state } of json as ReadonlyArray<{ readonly id: string; readonly state: string }>) {
    if (state === "Running") await user.send("DELETE", `/queries/${id}`)
  }
  await context.close()
  const of = (all: ReadonlyArray<Watched>, what: keyof Busy) =>
    range(
      all.map((one) => one[what]),
      0
    )
  console.table(
    Object.entries(seen).map(([list, all]) => ({
      list: `${running} run, ${list}`,
      "frames a second": range(all.map(({ count }) => count / seconds)),
      "longest frame, ms": range(
        all.map(({ longest }) => longest),
        0
      ),
      "ms of the page's thread a second": of(all, "all"),
      script: of(all, "script"),
      style: of(all, "style"),
      layout: of(all, "layout")
    }))
  )
}

export const run = () =>
  Effect.gen(function* () {
    yield* Effect.promise(() => build({ configFile: "src/console/vite.config.ts", logLevel: "error" }))
    const server = yield* TestPostgres.make({ maxConnections: running + 100 })
    const connection = yield* PgConnection.make({ url: server.superuserUrl })
    yield* connection.query(`create role console login password '${password}'`)
    yield* connection.query("create database console owner console")
    const queries = new URL(Redacted.value(server.superuserUrl))
    Object.assign(queries, { username: "console", password, pathname: "/console" })
    const browser = yield* Chromium.launch
    const service = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const port = String(await Effect.runPromise(freePort))
        return serve(Redacted.value(server.superuserUrl), {
          PORT: port,
          HOLDFAST_ORIGIN: `http://127.0.0.1:${port}`,
          HOLDFAST_QUERY_URL: queries.href,
          HOLDFAST_MAX_QUERIES: String(running + 20),
          HOLDFAST_MAX_QUERIES_PER_USER: String(running + 20)
        })
      }),
      ({ stop }) => Effect.promise(() => stop())
    )
    yield* Effect.promise(async () => {
      const all = new Map<string, Array<Load>>()
      const isLive = process.argv.includes("--live")
      for (let round = 0; round < (isLive ? 0 : rounds); round++) {
        for (const device of ["desk", "phone"]) {
          const found = await loads(browser, service.address, device === "phone")
          for (const [kind, one] of Object.entries(found)) {
            const name = `${device}, ${kind === "visit" ? "first visit" : "reload, logged in"}`
            all.set(name, [...(all.get(name) ?? []), one])
          }
        }
      }
      if (!isLive) console.table(Array.from(all, ([name, some]) => shown(name, some)))
      await live(browser, service.address)
    })
  }).pipe(Effect.scoped, Effect.runPromise)
