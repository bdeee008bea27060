/**
 * The console in a real browser: built from the sources as they are, and served by a running service.
 */
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { existsSync, globSync, promises as Fs, readFileSync, statSync } from "node:fs"
import * as Path from "node:path"
import type { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core"
import type * as Client from "./browser.ts"
import * as Chromium from "./chromium.ts"
import * as Service from "./service.ts"

const root = Path.join(import.meta.dirname, "../..")
const axe = readFileSync(Path.join(root, "node_modules/axe-core/axe.min.js"), "utf8")

/** The browser. */
export class Console extends Context.Service<Console, { readonly browser: Browser }>()("test/Console") {}

/** Whether nothing that the page is made of changed since it was built. */
const isBuilt = () => {
  const page = Path.join(root, "dist/console/index.html")
  if (!existsSync(page)) return false
  const sources = globSync("src/**/*.*", { cwd: root }).concat("package-lock.json")
  const { mtimeMs } = statSync(page)
  return sources.every((file) => statSync(Path.join(root, file)).mtimeMs < mtimeMs)
}

/** Services of other tests may start meanwhile: the page is replaced at once. */
const built = Effect.promise(async () => {
  if (isBuilt()) return
  const page = Path.join(root, "dist/console")
  const outDir = `${page}-${process.pid}`
  const configFile = Path.join(root, "src/console/vite.config.ts")
  await (await import("vite")).build({ configFile, logLevel: "error", build: { outDir } })
  await Fs.rm(page, { recursive: true, force: true })
  await Fs.rename(outDir, page)
})

/** A service with the console as it is now, and one browser for all tests of a block. */
export const layer = Layer.effect(
  Console,
  Effect.map(Chromium.launch, (browser) => ({ browser }))
).pipe(Layer.merge(Service.layerShared({ HOLDFAST_FUNCTIONS: "on" })), Layer.provide(Layer.effectDiscard(built)))

/** What a page of a service that has no session for it says on its first visit; a breach of the policy is none of it. */
const isExpected = (text: string): boolean => /Failed to load resource|net::ERR/.test(text)

/** A person's browser, for the current scope. At its end nothing was complained about: no error on a page, no breach of the policy. */
export const person = Effect.fnUntraced(function* (options: BrowserContextOptions = {}) {
  const { browser } = yield* Console
  const complaints: Array<string> = []
  yield* Effect.addFinalizer(() => Effect.sync(() => assert.deepStrictEqual(complaints, [])))
  const context = yield* Chromium.person(browser, options)
  context.setDefaultTimeout(60_000)
  context.on("console", (message) => {
    if (message.type() === "error" && !isExpected(message.text())) complaints.push(message.text())
  })
  context.on("weberror", (error) => complaints.push(String(error.error())))
  context.on("page", (page) =>
    page.on("dialog", (dialog) => {
      complaints.push(`dialog ${dialog.message()}`)
      void dialog.dismiss()
    })
  )
  return context
})

/** Opens the console in a new tab. */
export const open = Effect.fnUntraced(function* (context: BrowserContext) {
  const { url } = yield* Service.Shared
  return yield* does(async () => {
    const page = await context.newPage()
    await page.goto(`${url}/console`)
    return page
  })
})

/** What is done in a browser; a failure is the test's. */
export const does = <A>(work: () => Promise<A>): Effect.Effect<A> => Effect.promise(work)

export const logIn = (page: Page, username = "demo") =>
  does(async () => {
    await page.getByLabel("User name").fill(username)
    await page.getByLabel("Password").fill(Service.demoPassword)
    await page.getByRole("button", { name: "Log in" }).click()
    await page.getByRole("textbox", { name: "SQL" }).waitFor()
  })

/** A tab of somebody who is logged in. */
export const loggedIn = Effect.fnUntraced(function* (options?: BrowserContextOptions, username?: string) {
  const context = yield* person(options)
  const page = yield* open(context)
  yield* logIn(page, username)
  return { context, page }
})

/** A tab of somebody who logged in before: a login takes the service a quarter of a second. */
export const withSession = Effect.fnUntraced(function* ({ cookies }: Client.Browser) {
  const { url } = yield* Service.Shared
  const context = yield* person()
  yield* does(() =>
    context.addCookies(
      Array.from(cookies, ([name, value]) => ({ name, value, url, httpOnly: true, sameSite: "Lax" as const }))
    )
  )
  const page = yield* open(context)
  yield* does(() => page.getByRole("textbox", { name: "SQL" }).waitFor())
  return { context, page }
})

/** Writes into the editor what is to be run. */
export const write = (page: Page, sql: string) =>
  does(async () => {
    await page.getByRole("textbox", { name: "SQL" }).click()
    await page.keyboard.press("ControlOrMeta+a")
    await page.keyboard.insertText(sql)
  })

/** Writes SQL and runs it with the keyboard. */
export const run = (page: Page, sql: string) =>
  Effect.andThen(
    write(page, sql),
    does(() => page.keyboard.press("Control+Enter"))
  )

export const goTo = (page: Page, view: string) =>
  does(async () => {
    await page.getByRole("navigation").getByRole("link", { name: view }).click()
    await page.getByRole("heading", { name: view, level: 1 }).waitFor()
  })

const isLarge = Number(process.env["HOLDFAST_TEST_SCALE"] ?? 1) > 1

interface Violation {
  readonly id: string
  readonly nodes: ReadonlyArray<{ readonly html: string; readonly failureSummary?: string }>
}

/**
 * Fails where axe finds something, in both languages and both themes; the page looks as before afterwards. A theme changes colours and a
 * language changes texts, so that each is seen once. What axe would load before, styles of others and sounds, no page has. With `HOLDFAST_TEST_SCALE` above 1 every theme is seen in every language.
 */
export const isAccessible = (page: Page, what: string) =>
  does(async () => {
    // Half a megabyte, once for each page.
    if (!(await page.evaluate("'axe' in globalThis"))) await page.evaluate(axe)
    const isDark = Boolean(await page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches"))
    const [own, other] = isDark ? (["dark", "light"] as const) : (["light", "dark"] as const)
    const look = (colorScheme: "dark" | "light") => page.emulateMedia({ colorScheme })
    const speak = async (language: "en" | "ja") => {
      await page.locator("select:has(option[value=ja])").selectOption(language)
      await page.waitForFunction(`document.documentElement.lang === "${language}"`)
    }
    const check = async (how: string) => {
      const found = (await page.evaluate("axe.run({ resultTypes: ['violations'], preload: false })")) as {
        readonly violations: ReadonlyArray<Violation>
      }
      assert.deepStrictEqual(
        found.violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html} ${nodes[0]?.failureSummary}`),
        [],
        `${what}, ${how}`
      )
    }
    await check(`English, ${own}`)
    await look(other)
    if (isLarge) await check(`English, ${other}`)
    await speak("ja")
    await check(`Japanese, ${other}`)
    await look(own)
    if (isLarge) await check(`Japanese, ${own}`)
    await speak("en")
  })

const isPictured = process.env["HOLDFAST_TEST_IMAGES"] !== undefined

/** For pictures only: somebody's other device, and what was run there. */
export const otherDevice = Effect.fnUntraced(function* (username: string) {
  if (!isPictured) return
  const browser = yield* (yield* Service.Shared).login(username)
  for (const sql of [
    "select count(*) from pg_class",
    "insert into orders select * from orders_of_yesterday",
    "select n from generate_series(1, 250000) as n",
    "select 1 where false",
    "select pg_sleep(300) as nightly_report"
  ]) {
    yield* browser.send("POST", "/queries", { json: { sql } })
  }
})

/** Saves a picture of a view where it is asked for: `HOLDFAST_TEST_IMAGES=1`. */
export const picture = (page: Page, name: string, looks = 0) =>
  !isPictured
    ? Effect.void
    : does(async () => {
        // A chart needs some looks for a line.
        for (let look = 0; look < looks; look++) await page.waitForResponse("**/metrics")
        // The browser's caret is left as it is: hiding it takes a style that the policy forbids.
        await page.screenshot({ path: Path.join(root, `docs/images/${name}.png`), caret: "initial" })
      })
