import { NodeHttpServer } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import { readFileSync } from "node:fs"
import { createServer } from "node:http"
import { stripTypeScriptTypes } from "node:module"
import type { Browser, BrowserContext, Page } from "playwright-core"
import { rolldown } from "rolldown"
import { gzipSync } from "node:zlib"
import * as App from "../../docs/examples/browser-app.ts"
import { freePort } from "../../src/embedded/FreePort.ts"
import * as Chromium from "../support/chromium.ts"

const file = "src/browser/SessionState.ts"
const script = stripTypeScriptTypes(readFileSync(file, "utf8"))

class Chrome extends Context.Service<Chrome, Browser>()("test/Chrome") {}

/** The app of the docs, until it is stopped or the current scope closes. */
const serving = Effect.fnUntraced(function* (at?: number) {
  const port = at ?? (yield* freePort)
  const url = `http://127.0.0.1:${port}`
  const scope = yield* Scope.fork(yield* Effect.scope)
  const server = NodeHttpServer.layer(createServer, { port, host: "127.0.0.1", gracefulShutdownTimeout: 0 })
  yield* Layer.buildWithScope(Layer.provide(App.app(url), server).pipe(Layer.provide(Logger.layer([]))), scope)
  return { url, port, stop: Scope.close(scope, Exit.void) }
})

/** What a build would put beside the page. */
const withScript = (context: BrowserContext) =>
  Effect.promise(() =>
    context.route("**/SessionState.js", (route) => route.fulfill({ contentType: "text/javascript", body: script }))
  )

const tab = (context: BrowserContext, url: string) =>
  Effect.promise(async () => {
    const page = await context.newPage()
    await page.goto(url)
    return page
  })

const visitor = Effect.fnUntraced(function* (url: string) {
  const context = yield* Chromium.person(yield* Chrome)
  yield* withScript(context)
  return { context, page: yield* tab(context, url) }
})

const logIn = (page: Page, password = "wonderland") =>
  Effect.promise(async () => {
    await page.getByLabel("User name").fill("alice")
    await page.getByLabel("Password").fill(password)
    await page.getByRole("button", { name: "Log in" }).click()
  })

const says = (page: Page, text: string) => Effect.promise(() => page.getByText(text).waitFor())
const isHome = (page: Page) => says(page, "Hello alice")

/** Runs a program in the page, which has two states of one browser, as two tabs have, no stream, and can hold answers back. */
const between = (page: Page, program: string) =>
  Effect.promise<unknown>(() =>
    page.evaluate(`import("/SessionState.js").then(async ({ make }) => {
      const alice = { username: "alice", password: "wonderland" }
      globalThis.EventSource = class extends EventTarget { close() {} }
      const real = fetch
      /** What is asked by this was answered when it returns, and hears of it when it is let go. */
      const held = async (ask) => {
        const { promise, resolve } = Promise.withResolvers()
        const answered = Promise.withResolvers()
        globalThis.fetch = async (...call) => {
          const answer = await real(...call)
          answered.resolve()
          return promise.then(() => answer)
        }
        const over = ask().catch(() => undefined)
        globalThis.fetch = real
        await answered.promise
        return () => (resolve(), over)
      }
      const comesTo = (state, test) => new Promise((done) => {
        const look = () => test(state.snapshot()) && done()
        state.subscribe(look)
        look()
      })
      const is = (state, status) => comesTo(state, (it) => it.status === status)
      const knows = (state, id) => comesTo(state, (it) => it.session?.id === id)
      const one = make()
      const two = make()
      for (const state of [one, two]) await is(state, "anonymous")
      ${program}
    })`)
  )

/** How many streams the server has open: one tab listens for all. */
const streams = (page: Page) =>
  Effect.promise(() => page.evaluate(() => navigator.locks.query().then(({ held = [] }) => held.length)))

layer(Layer.effect(Chrome, Chromium.launch), { excludeTestServices: true, timeout: "60 seconds" })(
  "SessionState in a page without a build",
  (it) => {
    it.effect("logs in, counts down by the server's clock, and logs out", () =>
      Effect.gen(function* () {
        const { url } = yield* serving()
        const { page } = yield* visitor(url)
        yield* logIn(page, "?")
        yield* says(page, "401")
        yield* logIn(page)
        yield* isHome(page)
        const left = yield* Effect.promise(async () => {
          await page.locator("#left", { hasText: /^[1-9]/ }).waitFor()
          return Number(await page.textContent("#left"))
        })
        assert.closeTo(left, 1800, 15)
        yield* Effect.promise(() => page.reload())
        yield* isHome(page)
        yield* Effect.promise(() => page.getByRole("button", { name: "Log out" }).click())
        yield* says(page, "You logged out.")
        // A call that was under way meanwhile was answered that the session was ended; this is no other reason.
        const ended = yield* Effect.promise(() =>
          page.evaluate(`import("/SessionState.js").then(async ({ make }) => {
            const session = make()
            await session.login({ username: "alice", password: "wonderland" })
            await session.logout()
            session.unauthorized("SessionRevoked")
            return session.snapshot().ended
          })`)
        )
        assert.strictEqual(ended, "logout")
      }).pipe(Effect.scoped)
    )

    it.effect("an answer that was on its way when the session ended brings nothing back, in any tab", () =>
      Effect.gen(function* () {
        const { url } = yield* serving()
        const { page } = yield* visitor(url)
        const seen = yield* between(
          page,
          `await one.login(alice)
          await is(two, "active")
          const late = await held(two.refresh)
          const seen = []
          await one.logout()
          await is(two, "anonymous")
          for (const state of [one, two]) state.subscribe(() => seen.push(state.snapshot().status))
          await late()
          for (const state of [one, two, one]) await state.refresh()
          return [...new Set(seen), one.snapshot().ended, two.snapshot().ended]`
        )
        assert.deepStrictEqual(seen, ["anonymous", "logout", "logout"])
      }).pipe(Effect.scoped)
    )

    it.effect("a refusal that was on its way when somebody logged in ends nothing, in any tab", () =>
      Effect.gen(function* () {
        const { url } = yield* serving()
        const { page } = yield* visitor(url)
        const seen = yield* between(
          page,
          `await one.login(alice)
          await is(two, "active")
          await fetch("/logout", { method: "POST" })
          const late = await held(two.refresh)
          const { id } = await one.login(alice)
          await knows(two, id)
          const seen = []
          for (const state of [one, two]) state.subscribe(() => seen.push(state.snapshot().status))
          await late()
          one.unauthorized("SessionRevoked")
          for (const state of [one, two, one]) await state.refresh()
          return [...new Set(seen), ...[one, two].map((state) => state.snapshot().session.id === id)]`
        )
        assert.deepStrictEqual(seen, ["active", true, true])
      }).pipe(Effect.scoped)
    )

    it.effect("of several refused calls, the one that was told why is believed", () =>
      Effect.gen(function* () {
        const { url } = yield* serving()
        const { page } = yield* visitor(url)
        const ended = yield* between(
          page,
          `two.close()
          await one.login(alice)
          await fetch("/logout", { method: "POST" })
          for (const code of ["SessionMissing", "SessionExpired", "SessionMissing"]) one.unauthorized(code)
          await is(one, "anonymous")
          return one.snapshot().ended`
        )
        assert.strictEqual(ended, "SessionExpired")
      }).pipe(Effect.scoped)
    )

    it.effect("ten tabs have one connection, which another takes over, and all know of a login and a logout", () =>
      Effect.gen(function* () {
        const { url } = yield* serving()
        const { context, page } = yield* visitor(url)
        const others = yield* Effect.all(
          Array.from({ length: 9 }, () => tab(context, url)),
          { concurrency: 3 }
        )
        yield* logIn(page)
        for (const each of [page, ...others]) yield* isHome(each)
        assert.strictEqual(yield* streams(page), 1)
        // The one that listens goes.
        const [second, ...rest] = others
        assert.isDefined(second)
        yield* Effect.promise(() => page.close())
        yield* Effect.promise(
          () =>
            second?.waitForFunction(() => navigator.locks.query().then(({ held = [] }) => held.length === 1)) ??
            Promise.resolve()
        )
        // The news of the logout come by the stream or from the tab, whichever is faster, and say the same.
        const began = performance.now()
        yield* Effect.promise(() => rest[0]?.getByRole("button", { name: "Log out" }).click() ?? Promise.resolve())
        for (const each of others) yield* says(each, "You logged out.")
        yield* Effect.logInfo(
          `logout in one of nine tabs: all say so after ${Math.round(performance.now() - began)} ms`
        )
      }).pipe(Effect.scoped)
    )

    it.effect("no network and no service are told apart from each other, and neither logs anybody out", () =>
      Effect.gen(function* () {
        const { port, stop, url } = yield* serving()
        const { context, page } = yield* visitor(url)
        yield* logIn(page)
        yield* isHome(page)
        // What was asked for before, and is answered after, is no sign of a network.
        yield* Effect.promise(async () => {
          const network = page.getByText("No network.")
          await page.route("**/session", async (route) => {
            const response = await route.fetch()
            await context.setOffline(true)
            await network.waitFor()
            await route.fulfill({ response })
          })
          const late = page.waitForResponse("**/session")
          await page.evaluate("void dispatchEvent(new Event('pageshow'))")
          await (await late).finished()
          await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
          assert.isTrue(await network.isVisible())
          await page.unroute("**/session")
        })
        yield* isHome(page)
        yield* Effect.promise(() => context.setOffline(false))
        yield* Effect.promise(() => page.locator("#note:empty").waitFor({ state: "attached" }))
        yield* stop
        yield* says(page, "You are still logged in.")
        yield* isHome(page)
        // It comes back, and remembers nobody: its sessions were in its memory.
        yield* serving(port)
        yield* says(page, "You were logged out on another device.")
      }).pipe(Effect.scoped)
    )

    it.effect("takes less than 2 kB on the way to the browser", () =>
      Effect.promise(async () => {
        const bundle = await rolldown({ input: file })
        const { output } = await bundle.generate({ format: "es", minify: true })
        await bundle.close()
        assert.isBelow(gzipSync(output[0].code, { level: 9 }).length, 2000)
      })
    )
  }
)
