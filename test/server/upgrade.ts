/**
 * An upgrade under load: `node test/server/upgrade.ts DIRECTORY`, where the directory has an older version of the package.
 *
 * Two instances of the older version serve behind nginx on one database. `holdfast migrate` of this version runs beside them,
 * they go on, and one after the other is replaced by an instance of this version. Browsers that are logged in read and write
 * meanwhile. Prints what was asked and what failed in each phase, and how many sessions were lost.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as Path from "node:path"
import { text } from "node:stream/consumers"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import { freePort } from "../../src/embedded/FreePort.ts"
import * as Schedule from "effect/Schedule"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as Browser from "../support/browser.ts"
import * as Nginx from "../support/nginx.ts"
import * as Service from "../support/service.ts"

const older = Path.resolve(process.argv[2] ?? ".", "src/bin.ts")
const own = Path.resolve(import.meta.dirname, "../../src/bin.ts")
const browsersLoggedIn = 8

/** The program, and where it writes: an older one knows other variables. */
const start = Effect.fnUntraced(function* (bin: string, port: number, env: Service.Environment) {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const { HOME, PATH } = process.env
      const all = { HOME, PATH, ...env, PORT: String(port) }
      return spawn(process.execPath, [bin, "serve"], { env: all, stdio: ["ignore", "ignore", "inherit"] })
    }),
    (started) =>
      Effect.promise(async () => {
        if (started.exitCode !== null || started.signalCode !== null) return
        const gone = once(started, "exit")
        started.kill("SIGKILL")
        await gone
      })
  )
  const ready = Effect.tryPromise(() => fetch(`http://127.0.0.1:${port}/health/ready`))
  yield* Effect.repeat(Effect.match(ready, { onFailure: () => false, onSuccess: ({ status }) => status === 200 }), {
    until: (is) => is,
    schedule: Schedule.spaced("50 millis")
  }).pipe(Effect.timeout("60 seconds"))
  const stop = Effect.promise(async () => {
    const gone = once(child, "exit")
    child.kill("SIGTERM")
    await gone
    return child.exitCode
  })
  return { stop }
})

const command = (args: ReadonlyArray<string>, env: Service.Environment) =>
  Effect.promise(async () => {
    const { HOME, PATH } = process.env
    const child = spawn(process.execPath, [own, ...args], { env: { HOME, PATH, ...env } })
    const [out, error] = await Promise.all([text(child.stdout), text(child.stderr)])
    return `${out}${error}`.trimEnd()
  })

const program = Effect.gen(function* () {
  const postgres = yield* TestPostgres.make()
  const ports = [yield* freePort, yield* freePort] as const
  const { errors, port } = yield* Nginx.make(ports)
  const env = {
    DATABASE_URL: Redacted.value(postgres.url()),
    HOLDFAST_DEMO_PASSWORD: Service.demoPassword,
    // As in production: the cookie has the same name on every port.
    HOLDFAST_ORIGIN: "https://app.example.org",
    HOLDFAST_MAX_SESSIONS: "100"
  }
  const newer = { ...env, HOLDFAST_DRAIN_DELAY: "1s" }
  const instances = yield* Effect.forEach(ports, (each) => start(older, each, env))
  const demo = { username: "demo", password: Service.demoPassword }
  const logIn = () => Browser.login(Browser.make(`http://127.0.0.1:${port}`), demo)
  const browsers = yield* Effect.forEach(Array.from({ length: browsersLoggedIn }), logIn)

  let asked = 0
  let writes = 0
  const wrong: Array<string> = []
  const written = browsers.map(() => 0)
  const load = yield* Effect.forkScoped(
    Effect.forEach(
      browsers,
      (browser, index) =>
        Effect.forever(
          Effect.gen(function* () {
            const next = (written[index] ?? 0) + 1
            const wrote = yield* browser.send("PATCH", "/session/data", { json: { next } })
            asked++
            if (wrote.status === 200) {
              written[index] = next
              writes++
            } else wrong.push(`PATCH: ${wrote.status} ${wrote.text.slice(0, 200)}`)
            const read = yield* browser.send("GET", "/session/data")
            asked++
            if (read.status !== 200 || !read.text.includes(`"next":${written[index]}`)) {
              wrong.push(`GET: ${read.status} ${read.text.slice(0, 200)}, wanted ${written[index]}`)
            }
          })
        ),
      { concurrency: "unbounded" }
    )
  )
  /** The load goes on for so many more requests. */
  const phase = Effect.fnUntraced(function* <A, E, R>(name: string, step: Effect.Effect<A, E, R>) {
    const before = { asked, writes, wrong: wrong.length }
    const result = yield* step
    const enough = asked + 400
    yield* Effect.repeat(
      Effect.sync(() => asked),
      { until: (now) => now >= enough, schedule: Schedule.spaced("20 millis") }
    )
    const failed = wrong.length - before.wrong
    console.log(`${name}: ${asked - before.asked} requests, ${writes - before.writes} of them writes, ${failed} failed`)
    return result
  })

  yield* phase("two older instances", Effect.void)
  console.log(yield* command(["migrate", "--dry-run"], newer))
  console.log(yield* phase("holdfast migrate of this version beside them", command(["migrate"], newer)))
  console.log(yield* command(["migrate"], newer))
  yield* phase(
    "a login on the older ones",
    Effect.flatMap(logIn(), (browser) => browser.send("POST", "/logout"))
  )
  for (const [index, instance] of instances.entries()) {
    const step = Effect.andThen(instance.stop, start(own, ports[index] ?? 0, newer))
    yield* phase(`older instance ${index + 1} is replaced`, step)
    yield* phase(
      "a login on both versions",
      Effect.flatMap(logIn(), (browser) => browser.send("POST", "/logout"))
    )
  }
  yield* Fiber.interrupt(load)
  let lost = 0
  for (const [index, browser] of browsers.entries()) {
    const { status, text } = yield* browser.send("GET", "/session/data")
    if (status !== 200 || !text.includes(`"next":`)) lost++
    else if (Number(/"next":(\d+)/.exec(text)?.[1]) < (written[index] ?? 0)) lost++
  }
  console.log(`in all: ${asked} requests, ${wrong.length} failed, ${lost} of ${browsers.length} sessions lost`)
  for (const line of new Set(wrong)) console.log(line)
  if (wrong.length > 0) console.log(errors())
})

await Effect.runPromise(Effect.scoped(program))
