import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { tableFromIPC } from "apache-arrow"
import { readFileSync } from "node:fs"
import type { Page } from "playwright-core"
import { freePort } from "../../src/embedded/FreePort.ts"
import { eventually } from "../support/conditions.ts"
import * as Console from "../support/console.ts"
import { does } from "../support/console.ts"
import * as Service from "../support/service.ts"

/** Bytes as they came over the wire. */
const counting = (page: Page) =>
  does(async () => {
    const session = await page.context().newCDPSession(page)
    let bytes = 0
    session.on("Network.loadingFinished", ({ encodedDataLength }) => {
      bytes += encodedDataLength
    })
    await session.send("Network.enable")
    return () => bytes
  })

/** For a machine that does much else. */
const patience = 180_000

const grid = (page: Page) => page.getByRole("grid")
/** Where the console shows what a statement returned or said. */
const result = (page: Page) => page.locator(".result")
const says = (page: Page, text: string | RegExp) =>
  does(() => page.getByRole("status").filter({ hasText: text }).waitFor())

const events = [
  "onerror",
  "onload",
  "onclick",
  "onfocus",
  "onmouseover",
  "ontoggle",
  "onanimationstart",
  "onpointerenter",
  "onbegin",
  "onscroll"
]

/** What becomes code where text becomes a page (OWASP XSS Filter Evasion Cheat Sheet). */
const payloads = [
  "<img src=x onerror=alert(1)>",
  "<script>alert(1)</script>",
  '"><script>alert(1)</script>',
  "'-alert(1)-'",
  "</textarea><script>alert(1)</script>",
  "</title><script>alert(1)</script>",
  "</style><script>alert(1)</script>",
  "javascript:alert(1)",
  "<a href=javascript:alert(1)>x</a>",
  "<iframe src=javascript:alert(1)>",
  "<iframe srcdoc='<script>alert(1)</script>'>",
  "<object data=javascript:alert(1)>",
  "<embed src=javascript:alert(1)>",
  "<form action=javascript:alert(1)><input type=submit>",
  "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
  "<svg><script>alert(1)</script></svg>",
  "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
  "<svg><use href=data:image/svg+xml,<svg/onload=alert(1)>>",
  "<base href=//evil.example>",
  "<link rel=stylesheet href=//evil.example>",
  "<meta http-equiv=refresh content=0;url=javascript:alert(1)>",
  "<style>@import '//evil.example'</style>",
  "<details open ontoggle=alert(1)>",
  "<marquee onstart=alert(1)>",
  "<input autofocus onfocus=alert(1)>",
  "<template><script>alert(1)</script></template>",
  "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
  "<!--><img src=x onerror=alert(1)>-->",
  "<![CDATA[><img src=x onerror=alert(1)>]]>",
  "&lt;script&gt;alert(1)&lt;/script&gt;",
  "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
  "{{constructor.constructor('alert(1)')()}}",
  "${alert(1)}",
  "`${alert(1)}`",
  '{"__proto__":{"innerHTML":"<img src=x onerror=alert(1)>"}}',
  "__proto__",
  "constructor",
  "=cmd|' /C calc'!A0",
  "\u202e<script>alert(1)</script>",
  "<scr\u0131pt>alert(1)</script>",
  ...["img", "body"].flatMap((tag) => events.map((event) => `<${tag} src=x ${event}=alert(1)>`))
]

layer(Console.layer, { excludeTestServices: true, timeout: "60 seconds" })("the console", (it) => {
  it.effect(
    "is a page with a strict policy, whose assets are kept for good",
    () =>
      Effect.gen(function* () {
        const { browser: newBrowser } = yield* Service.Shared
        const browser = newBrowser()
        const page = yield* browser.send("GET", "/console")
        assert.deepStrictEqual(
          [page.status, page.headers.get("content-type"), page.headers.get("cache-control")],
          [200, "text/html; charset=utf-8", "no-cache"]
        )
        const policy = page.headers.get("content-security-policy") ?? ""
        assert.include(policy, "default-src 'none'; script-src 'self'")
        assert.include(policy, "require-trusted-types-for 'script'")
        assert.notMatch(policy, /unsafe|https?:|\*/)
        assert.notMatch(page.text, /<script(?![^>]*src=)|\sstyle=|\son\w+=/)
        const [, asset = ""] = /src="([^"]+)"/.exec(page.text) ?? []
        const script = yield* browser.send("GET", asset, { headers: { "accept-encoding": "br" } })
        assert.deepStrictEqual(
          [script.status, script.headers.get("cache-control"), script.headers.get("content-encoding")],
          [200, "public, max-age=31536000, immutable", "br"]
        )
        for (const path of ["/console/assets/nothing.js", "/console/index.html", "/console/"]) {
          assert.strictEqual((yield* browser.send("GET", path)).status, 404, path)
        }
      }),
    patience
  )

  it.effect(
    "shows rows a moment after the first visit",
    () =>
      Effect.gen(function* () {
        const context = yield* Console.person()
        const page = yield* does(() => context.newPage())
        const bytes = yield* counting(page)
        const began = performance.now()
        const { url } = yield* Service.Shared
        yield* does(() => page.goto(`${url}/console`))
        assert.strictEqual(yield* does(() => page.title()), "Holdfast")
        yield* Console.logIn(page)
        yield* does(() => page.getByRole("button", { name: "Run" }).click())
        yield* does(() => grid(page).getByRole("gridcell", { name: "row 1", exact: true }).waitFor())
        const took = (performance.now() - began) / 1000
        yield* Effect.logInfo(`first visit to rows: ${took.toFixed(2)} s, ${Math.round(bytes() / 1000)} kB`)
        assert.isBelow(bytes(), 320_000)
        yield* says(page, /^100 rows in/)
        // Nothing of the session can be reached by a script.
        assert.strictEqual(yield* does(() => page.evaluate("document.cookie")), "")
        // Nothing is lost on reload.
        yield* Console.write(page, "select 'kept' as it")
        yield* does(() => page.reload())
        yield* does(() => page.getByText("select 'kept' as it").waitFor())
        yield* does(() => grid(page).getByRole("gridcell", { name: "row 1", exact: true }).waitFor())
      }),
    patience
  )

  it.effect(
    "is accessible in every view, in both themes and both languages, wide and on a phone",
    () =>
      Effect.forEach(
        [
          ["wide", "alice", { viewport: { width: 1280, height: 800 }, colorScheme: "light" }],
          ["narrow", "bob", { viewport: { width: 390, height: 844 }, colorScheme: "dark" }]
        ] as const,
        Effect.fnUntraced(function* ([size, name, options]) {
          const service = yield* Service.Shared
          yield* Service.addUser(service, name)
          yield* Service.setOperator(service, name, true)
          const context = yield* Console.person(options)
          const page = yield* Console.open(context)
          yield* does(() => page.getByLabel("User name").waitFor())
          yield* Console.isAccessible(page, `login ${size}`)
          yield* Console.picture(page, `console-login-${size}`)
          yield* Console.otherDevice(name)
          yield* Console.logIn(page, name)
          yield* Console.run(
            page,
            "select n as id, (array['paid', 'shipped', 'returned'])[1 + n % 3] as status, round(n * 37 % 9973 / 7.0, 2) as amount,\n  now() - n * interval '1 day' as ordered_at, case when n % 4 > 0 then md5(n::text) end as receipt\nfrom generate_series(1, 5000) as n"
          )
          yield* says(page, /^5,000 rows in/)
          yield* Console.isAccessible(page, `SQL ${size}`)
          yield* Console.picture(page, `console-sql-${size}`)
          yield* Console.run(page, "select pg_sleep(300)")
          yield* does(() => page.getByRole("button", { name: "Cancel", exact: true }).waitFor())
          yield* Console.goTo(page, "Queries")
          yield* does(() => page.getByRole("row").filter({ hasText: "Running" }).first().waitFor())
          yield* Console.isAccessible(page, `Queries ${size}`)
          yield* Console.picture(page, `console-queries-${size}`)
          yield* does(() =>
            page.getByRole("row").filter({ hasText: "Running" }).first().getByRole("button", { name: "Cancel" }).click()
          )
          yield* does(() => page.getByRole("link", { name: "Rows" }).first().click())
          yield* does(() => grid(page).getByRole("gridcell").first().waitFor())
          yield* Console.isAccessible(page, `a query ${size}`)
          yield* Console.picture(page, `console-query-${size}`)
          yield* Console.goTo(page, "Functions")
          yield* does(() => page.getByRole("button", { name: "Create and run" }).click())
          yield* does(() => page.getByText('"doubled": 42').waitFor())
          yield* Console.isAccessible(page, `Functions ${size}`)
          yield* Console.picture(page, `console-functions-${size}`)
          yield* Console.goTo(page, "Sessions")
          yield* does(() => page.getByText("This session").first().waitFor())
          yield* Console.isAccessible(page, `Sessions ${size}`)
          yield* Console.picture(page, `console-sessions-${size}`)
          yield* Console.goTo(page, "Holdings")
          yield* does(() => page.getByRole("treeitem").first().waitFor())
          yield* does(() => page.getByRole("img", { name: /event stream [1-9]/ }).waitFor())
          yield* Console.isAccessible(page, `Holdings ${size}`)
          yield* Console.picture(page, `console-holdings-${size}`, 4)
          // By the keyboard: the tree closes and opens.
          const session = page.getByRole("treeitem", { expanded: true }).first()
          yield* does(() => session.focus())
          yield* does(() => page.keyboard.press("ArrowLeft"))
          yield* does(() => page.getByRole("treeitem", { expanded: false }).first().waitFor())
          yield* does(() => page.getByLabel("Language").selectOption("ja"))
          yield* does(() => page.getByRole("heading", { name: "保持状況" }).waitFor())
          assert.strictEqual(yield* does(() => page.evaluate("document.documentElement.lang")), "ja")
          const other = size === "wide" ? "dark" : "light"
          yield* does(() => page.getByLabel("テーマ").selectOption(other))
          assert.strictEqual(yield* does(() => page.evaluate("document.documentElement.dataset.theme")), other)
        }),
        { concurrency: 2, discard: true }
      ),
    patience
  )

  it.effect(
    "says why a session is over, moments later: by another tab, another device, an operator",
    () =>
      Effect.gen(function* () {
        const service = yield* Service.Shared
        yield* Service.addUser(service, "wanderer")
        const { context, page } = yield* Console.loggedIn({}, "wanderer")
        const again = () => Console.logIn(page, "wanderer")
        const figures: Array<string> = []
        const timed = Effect.fnUntraced(function* (what: string, text: string, act: Effect.Effect<unknown, unknown>) {
          const seen = page.getByText(text).waitFor()
          const began = performance.now()
          yield* act
          yield* does(() => seen)
          figures.push(`${what} ${Math.round(performance.now() - began)} ms`)
        })
        // In another tab of four, all of which follow.
        const tabs = yield* Effect.all(
          Array.from({ length: 3 }, () => Console.open(context)),
          { concurrency: 3 }
        )
        for (const tab of tabs) yield* does(() => tab.getByRole("textbox", { name: "SQL" }).waitFor())
        const [other] = tabs
        yield* timed(
          "logout in another tab",
          "You logged out.",
          does(() => other?.getByRole("button", { name: "Log out" }).click() ?? Promise.resolve())
        )
        for (const tab of tabs) yield* does(() => tab.getByText("You logged out.").waitFor())
        for (const tab of tabs) yield* does(() => tab.close())
        yield* again()

        // On another device, at a click on its row.
        const { page: device } = yield* Console.loggedIn(
          { userAgent: "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0" },
          "wanderer"
        )
        yield* Console.goTo(device, "Sessions")
        yield* does(() => device.getByRole("row", { name: "This session" }).waitFor())
        yield* timed(
          "ended on another device",
          "You were logged out on another device",
          does(() =>
            device
              .getByRole("row")
              .filter({ hasNotText: "This session" })
              .getByRole("button", { name: "End", exact: true })
              .click()
          )
        )
        yield* again()
        yield* timed(
          "all others ended",
          "You were logged out on another device",
          does(async () => {
            await device.getByRole("button", { name: "End all others" }).waitFor({ state: "detached" })
            await device.reload()
            await device.getByRole("button", { name: "End all others" }).click()
            await device.getByRole("button", { name: "Yes" }).click()
          })
        )
        yield* again()

        // By an operator, who looks at what is held.
        const { page: operator } = yield* Console.withSession(yield* Service.Demo)
        yield* Console.goTo(operator, "Holdings")
        const mine = yield* does(() => page.evaluate("fetch('/session').then((it) => it.json()).then((it) => it.id)"))
        yield* timed(
          "ended by an operator",
          "You were logged out on another device",
          does(() =>
            operator
              .getByRole("treeitem", { level: 1 })
              .filter({ hasText: String(mine) })
              .getByRole("button", { name: "End", exact: true })
              .click()
          )
        )
        yield* again()

        // Nobody asks meanwhile.
        yield* timed(
          "no network",
          "There is no network.",
          does(() => context.setOffline(true))
        )
        yield* does(() => context.setOffline(false))
        yield* does(() => page.getByText("There is no network.").waitFor({ state: "detached" }))
        yield* Effect.logInfo(figures.join(", "))
      }),
    patience
  )

  it.effect(
    "scrolls through a million rows without growing, copies them and saves them",
    () =>
      Effect.gen(function* () {
        const { page } = yield* Console.withSession(yield* Service.Demo)
        yield* does(() => page.context().grantPermissions(["clipboard-read", "clipboard-write"]))
        yield* Console.run(page, "select n, n * 2 as twice from generate_series(1, 1000000) as n")
        yield* says(page, /^1,000,000 rows in/)
        yield* does(() => grid(page).focus())
        const began = performance.now()
        yield* does(() => page.keyboard.press("Control+End"))
        yield* does(() => grid(page).getByRole("gridcell", { name: "2000000", exact: true }).waitFor())
        const jump = performance.now() - began
        const cells = yield* does(() => grid(page).getByRole("gridcell").count())
        // Everywhere in between, as somebody does who pulls the bar.
        const session = yield* does(() => page.context().newCDPSession(page))
        const heap = () =>
          does(async () => {
            await session.send("HeapProfiler.collectGarbage")
            return (await session.send("Runtime.getHeapUsage")).usedSize
          })
        const before = yield* heap()
        for (let place = 0; place <= 20; place++) {
          yield* does(() =>
            grid(page).evaluate(
              (it, share) => ((it as unknown as { scrollTop: number }).scrollTop = share * 8_000_000),
              place / 20
            )
          )
          yield* does(() => page.locator(".grid .coming").first().waitFor({ state: "detached" }))
        }
        const grown = (yield* heap()) - before
        yield* Effect.logInfo(
          `a million rows: to the last in ${Math.round(jump)} ms, ${cells} cells, ${(grown / 1e6).toFixed(1)} MB more after 20 places`
        )
        assert.isBelow(cells, 120)
        assert.isBelow(grown, 40_000_000)
        yield* does(() => grid(page).focus())
        for (const key of ["Control+Home", "Shift+ArrowDown", "Shift+ArrowRight", "Control+c"]) {
          yield* does(() => page.keyboard.press(key))
        }
        yield* says(page, "4 cells copied")
        assert.strictEqual(yield* does(() => page.evaluate("navigator.clipboard.readText()")), "1\t2\n2\t4")

        yield* Console.run(
          page,
          `select 1 as a, 'x,"y"' as a, null as b, '' as c union all select 2, 'z', 9007199254740993, 'd'`
        )
        yield* says(page, /^2 rows in/)
        for (const [format, expected] of [
          ["CSV", 'a,a_2,b,c\r\n1,"x,""y""",,""\r\n2,z,9007199254740993,d\r\n'],
          [
            "JSON",
            '[\n{"a":1,"a_2":"x,\\"y\\"","b":null,"c":""},\n{"a":2,"a_2":"z","b":"9007199254740993","c":"d"}\n]\n'
          ]
        ] as const) {
          const path = yield* does(async () => {
            const [download] = await Promise.all([
              page.waitForEvent("download"),
              page.getByRole("button", { name: `Download ${format}` }).click()
            ])
            return download.path()
          })
          assert.strictEqual(readFileSync(path, "utf8"), expected)
        }

        // As Arrow, read by another reader: what the API said, as numbers, moments and text.
        yield* Console.run(
          page,
          `select 9007199254740993::int8 as big, 1.10::numeric as money, 'infinity'::float8 as far, null::bool as none,
             '2026-01-02 03:04:05.678901+00'::timestamptz as at, '2024-02-29'::date as on, '{"a": 1e400, "b": 1.10}'::json as doc`
        )
        yield* says(page, /^1 row in/)
        const arrow = yield* does(async () => {
          const [download] = await Promise.all([
            page.waitForEvent("download"),
            page.getByRole("button", { name: "Download Arrow" }).click()
          ])
          assert.match(download.suggestedFilename(), /\.arrows$/)
          return tableFromIPC(readFileSync(await download.path()))
        })
        const at = BigInt(Date.UTC(2026, 0, 2, 3, 4, 5, 678)) * 1000n + 901n
        assert.deepStrictEqual(
          arrow.schema.fields.map(({ name, type }, index) => [name, String(type), arrow.getChildAt(index)?.get(0)]),
          [
            ["big", "Int64", 9007199254740993n],
            ["money", "Utf8", "1.10"],
            ["far", "Float64", Infinity],
            ["none", "Bool", null],
            ["at", "Timestamp<MICROSECOND, UTC>", Number(at) / 1000],
            ["on", "Date32<DAY>", Date.UTC(2024, 1, 29)],
            ["doc", "Utf8", '{"a": 1e400, "b": 1.10}']
          ]
        )
        assert.deepStrictEqual(arrow.getChild("at")?.data[0]?.values, new BigInt64Array([at]))

        // Many rows are written to the file as they come, a batch for each page. The person's choice of a place is a file of the page's own.
        yield* does(() =>
          page.evaluate(
            "void (globalThis.showSaveFilePicker = async ({ suggestedName }) => (await navigator.storage.getDirectory()).getFileHandle(suggestedName, { create: true }))"
          )
        )
        yield* Console.run(page, "select n, n % 7 = 0 as seventh from generate_series(1, 50001) as n")
        yield* says(page, /^50,001 rows in/)
        yield* does(() => page.getByRole("button", { name: "Download Arrow" }).click())
        yield* says(page, /^50,001 rows saved as .*\.arrows\.$/)
        const saved = yield* does(
          () =>
            page.evaluate(
              "(async () => { for await (const file of (await navigator.storage.getDirectory()).values()) return Array.from(new Uint8Array(await (await file.getFile()).arrayBuffer())) })()"
            ) as Promise<ReadonlyArray<number>>
        )
        const streamed = tableFromIPC(Uint8Array.from(saved))
        assert.deepStrictEqual([streamed.numRows, streamed.batches.length], [50_001, 6])
        assert.strictEqual(
          streamed.toArray().every(({ n, seventh }, index) => n === index + 1 && seventh === (n % 7 === 0)),
          true
        )
      }),
    patience
  )

  it.effect(
    "shows a hundred queries live, and ends one at a click and all at two",
    () =>
      Effect.gen(function* () {
        const service = yield* Service.Shared
        yield* Service.addUser(service, "busy")
        const browser = yield* service.login("busy")
        const { page } = yield* Console.withSession(browser)
        yield* Console.goTo(page, "Queries")
        yield* does(() => page.getByText("You have no queries yet.").waitFor())
        // News are drawn together, so that a busy service does not make a busy page.
        yield* does(() =>
          page.evaluate(`{
            globalThis.drawings = []
            const observer = new MutationObserver(() => drawings.push(performance.now()))
            observer.observe(document.querySelector("main"), { childList: true, subtree: true })
          }`)
        )
        yield* Effect.forEach(
          Array.from({ length: 100 }, (_, n) => n),
          (n) => browser.send("POST", "/queries", { json: { sql: `select pg_sleep(600), ${n}` } }),
          { concurrency: 10, discard: true }
        )
        yield* does(() => page.getByText(/^100 of 100 queries$/).waitFor())
        const drawings = yield* does(() => page.evaluate("drawings") as Promise<ReadonlyArray<number>>)
        assert.isAbove(drawings.length, 1)
        assert.isAtMost(drawings.length, 2 + ((drawings.at(-1) ?? 0) - (drawings[0] ?? 0)) / 100)
        assert.strictEqual(yield* does(() => page.evaluate("document.getAnimations().length")), 0)
        const row = page.getByRole("row").filter({ hasText: "Running" }).first()
        const text = (yield* does(() => row.getByRole("link").textContent())) ?? ""
        yield* does(() => row.getByRole("button", { name: "Cancel" }).click())
        // What is over is behind all that is not.
        yield* does(() => page.getByLabel("State").selectOption("Canceled"))
        yield* does(() => page.getByRole("link", { name: text, exact: true }).click())
        yield* does(() => page.getByRole("list", { name: "Timeline" }).getByText("Canceling").waitFor())
        yield* does(() => page.goBack())
        yield* does(() => page.getByLabel("State").selectOption("Canceled"))
        yield* does(() => page.getByRole("button", { name: "Cancel all" }).click())
        yield* does(() => page.getByRole("button", { name: "Yes" }).click())
        yield* does(() => page.getByText(/^100 of 100 queries$/).waitFor())
      }),
    patience
  )

  it.effect(
    "runs the statement at the cursor, shows values as they are, and the server's error at its place",
    () =>
      Effect.gen(function* () {
        const { page } = yield* Console.withSession(yield* Service.Demo)
        yield* Console.run(
          page,
          `select 1; select 9007199254740993::int8 as big, 1.10::numeric as money, null as none, '{"a": 1e400, "b": 1.10}'::json as doc, '<b>' as html`
        )
        for (const text of ["9007199254740993", "1.10", "NULL", '{"a": 1e400, "b": 1.10}', "<b>"]) {
          yield* does(() => grid(page).getByRole("gridcell", { name: text, exact: true }).waitFor())
        }
        yield* Console.run(page, "select 'ä😀', nonsense from nowhere")
        yield* does(() => page.getByText("42P01").waitFor())
        yield* does(() => page.getByText("Line 1, column").waitFor())
        assert.strictEqual(yield* does(() => page.locator(".fault").textContent()), "nowhere")
        yield* Console.run(page, "do $$ begin raise notice 'for your information'; end $$")
        yield* does(() => result(page).getByText("for your information").waitFor())
        // Parameters, and one that is none.
        yield* does(() => page.getByLabel("Parameters").fill('["x", 42]'))
        yield* Console.run(page, "select $1::text || $2::text as sent")
        yield* does(() => grid(page).getByRole("gridcell", { name: "x42" }).waitFor())
        yield* does(() => page.getByLabel("Parameters").fill("{"))
        yield* does(() => page.getByRole("button", { name: "Run" }).click())
        yield* says(page, "Parameters must be a JSON list")
        yield* does(() => page.getByLabel("Parameters").fill(""))
        // While one statement runs, another one is run; the first goes on, and what was said of this view is not said of the next.
        yield* Console.run(page, "select pg_sleep(600), 'goes on'")
        yield* does(() => page.getByRole("button", { name: "Cancel", exact: true }).waitFor())
        yield* Console.run(page, "select 'meanwhile' as it")
        yield* does(() => grid(page).getByRole("gridcell", { name: "meanwhile" }).waitFor())
        yield* says(page, /^1 row in/)
        yield* Console.goTo(page, "Queries")
        assert.strictEqual(yield* does(() => page.getByRole("status").textContent()), "")
        const first = page.getByRole("row").filter({ hasText: "goes on" })
        yield* does(() => first.filter({ hasText: "Running" }).getByRole("button", { name: "Cancel" }).click())
        yield* does(() => first.filter({ hasText: "Canceled" }).waitFor())
      }),
    patience
  )

  it.effect(
    "sends what is run while another statement is on its way after that one, and the same one once",
    () =>
      Effect.gen(function* () {
        const { page } = yield* Console.withSession(yield* Service.Demo)
        const sent: Array<unknown> = []
        const go = Promise.withResolvers<undefined>()
        yield* does(() =>
          page.route("**/queries", async (route) => {
            const body = route.request().postData() ?? ""
            // The editor asks for the names of tables, too.
            if (body !== "" && !body.includes("catalogue")) {
              sent.push(JSON.parse(body))
              if (sent.length === 1) await go.promise
            }
            await route.continue()
          })
        )
        yield* Console.run(page, "select 'first' as it")
        yield* does(() => page.keyboard.press("Control+Enter"))
        yield* Console.run(page, "select 'second' as it")
        yield* does(() => page.keyboard.press("Control+Enter"))
        go.resolve(undefined)
        yield* does(() => grid(page).getByRole("gridcell", { name: "second" }).waitFor())
        assert.deepStrictEqual(sent, [{ sql: "select 'first' as it" }, { sql: "select 'second' as it" }])
        // Once the service has it, the same one may be run again.
        yield* does(() => page.keyboard.press("Control+Enter"))
        yield* eventually(
          Effect.sync(() => sent.length),
          (count) => count === 3
        )
      }),
    patience
  )

  it.effect(
    "shows whatever is in statements, rows, names, notices, agents and titles as text",
    () =>
      Effect.gen(function* () {
        const service = yield* Service.Shared
        yield* Service.addUser(service, "mallory")
        const { page } = yield* Console.loggedIn({ userAgent: payloads[0] ?? "" }, "mallory")
        yield* does(() => page.evaluate("globalThis.hit = 0; void (globalThis.alert = () => globalThis.hit++)"))
        assert.lengthOf(payloads, 60)
        const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`
        const name = (text: string) => `"${text.replaceAll('"', '""').slice(0, 60)}"`
        yield* Console.run(
          page,
          `select * from (values ${payloads.map((text) => `(${quoted(text)})`).join(", ")}) as it(${name(payloads[1] ?? "")})`
        )
        yield* says(page, new RegExp(`^${payloads.length} rows in`))
        for (const text of [payloads[0], payloads.at(-1)]) {
          yield* does(() => grid(page).focus())
          yield* does(() => page.keyboard.press(text === payloads[0] ? "Control+Home" : "Control+End"))
          yield* does(() =>
            grid(page)
              .getByRole("gridcell", { name: text ?? "", exact: true })
              .waitFor()
          )
        }
        yield* Console.run(
          page,
          `do $x$ begin ${payloads
            .slice(0, 20)
            .map((text) => `raise notice '%', ${quoted(text)};`)
            .join(" ")} end $x$`
        )
        yield* does(() => page.locator(".notices li").nth(19).waitFor())
        yield* Console.run(page, `select ${name(payloads[2] ?? "")}`)
        yield* does(() => page.getByText("42703").waitFor())
        yield* Console.goTo(page, "Queries")
        yield* does(() => page.getByRole("row").nth(3).waitFor())
        yield* Console.goTo(page, "Functions")
        yield* does(() => page.getByLabel("Title").fill(payloads[3] ?? ""))
        yield* does(() =>
          page.getByRole("textbox", { name: "Script", exact: true }).fill(
            `export default () => { ${payloads
              .slice(0, 20)
              .map((text) => `console.log(${JSON.stringify(text)})`)
              .join(";")}; return ${JSON.stringify(payloads)} }`
          )
        )
        yield* does(() => page.getByRole("button", { name: "Create and run" }).click())
        yield* does(() => page.locator(".well").nth(1).waitFor())
        yield* Console.goTo(page, "Sessions")
        yield* does(() => page.getByText("This session").first().waitFor())
        yield* does(() => page.goto(`${service.url}/console#/queries/${encodeURIComponent(payloads[0] ?? "")}`))
        yield* does(() => page.reload())
        yield* does(() => page.getByText(/There is no query of this id|See \/docs/).waitFor())
        assert.strictEqual(yield* does(() => page.evaluate("globalThis.hit ?? 0")), 0)
        assert.strictEqual(yield* does(() => page.locator("img, iframe, object, embed, svg script, math").count()), 0)
      }),
    patience
  )

  it.effect(
    "runs a function, and shows what it wrote and returned, or where it failed",
    () =>
      Effect.gen(function* () {
        const { page } = yield* Console.withSession(yield* Service.Demo)
        yield* Console.goTo(page, "Functions")
        yield* does(() => page.getByText("You have no functions.").waitFor())
        yield* does(() => page.getByLabel("Title").fill("Doubling"))
        yield* does(() => page.getByRole("button", { name: "Create and run" }).click())
        yield* does(() => page.getByText('hello {"n":21}').waitFor())
        yield* does(() => page.getByText('"doubled": 42').waitFor())
        yield* does(() =>
          page
            .getByRole("textbox", { name: "Script", exact: true })
            .fill("export default () => { throw new TypeError('no such thing') }")
        )
        yield* does(() => page.getByRole("button", { name: "Create and run" }).click())
        yield* does(() => page.getByText("no such thing").waitFor())
        yield* does(() =>
          page
            .getByRole("listitem")
            .filter({ hasText: "Doubling" })
            .first()
            .getByRole("button", { name: "End" })
            .click()
        )
        yield* does(() =>
          page.getByRole("listitem").filter({ hasText: "Doubling" }).nth(1).waitFor({ state: "detached" })
        )
      }),
    patience
  )

  it.effect(
    "stays logged in while the service is restarted, says meanwhile that it does not answer, and when the session is over by its own clock",
    () =>
      Effect.gen(function* () {
        // Nobody else gets it while the service is away.
        const first = yield* Service.startService({ env: { PORT: String(yield* freePort) } })
        const { page } = yield* Effect.provideService(Console.loggedIn(), Service.Shared, first)
        yield* Console.write(page, "select 'survives'")
        const began = performance.now()
        yield* Effect.andThen(first.signal("SIGTERM"), first.exited)
        yield* does(() => page.getByText("The service does not answer.").waitFor())
        const noticed = performance.now() - began
        const second = yield* Service.launch({ args: ["serve"], env: { ...first.env, PORT: new URL(first.url).port } })
        yield* Service.ready(yield* Service.listening(second))
        const ready = performance.now()
        yield* does(() => page.getByText("The service does not answer.").waitFor({ state: "detached" }))
        yield* Effect.logInfo(
          `restart: said after ${Math.round(noticed)} ms, well again ${Math.round(performance.now() - ready)} ms after it was ready`
        )
        yield* does(() => page.getByText("select 'survives'").waitFor())
        yield* does(() => page.getByRole("button", { name: "Run" }).click())
        yield* does(() => grid(page).getByRole("gridcell", { name: "survives" }).waitFor())

        // Said when somebody does something.
        yield* first.travel("13 hours")
        const over = performance.now()
        yield* does(() => page.getByRole("navigation").getByRole("link", { name: "Sessions" }).click())
        yield* does(() => page.getByText("Your session ended").waitFor())
        yield* Effect.logInfo(`expired: said after ${Math.round(performance.now() - over)} ms`)
      }),
    patience
  )
})
