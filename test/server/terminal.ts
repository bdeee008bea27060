/**
 * What every command looks like on a terminal, and what it says to a program: `node test/server/terminal.ts`.
 *
 * Each command runs in tmux, which draws what a person would see, and once more with its output to a pipe. `--columns 80` sets the
 * width (default: 120), `--only top,doctor` takes the commands that begin with these words, and `--piped` shows the pipes alone.
 * A service with an embedded database of its own is started for them, with a user whose queries are there to be listed.
 */
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Client from "../support/browser.ts"
import * as DistributionPrograms from "../support/distributionPrograms.ts"
import * as Service from "../support/service.ts"

const option = (name: string, usual: string) => {
  const at = process.argv.indexOf(`--${name}`)
  return at === -1 ? usual : (process.argv[at + 1] ?? usual)
}
const columns = Number(option("columns", "120"))
const only = option("only", "").split(",")
const bin = new URL("../../src/bin.ts", import.meta.url).pathname

const tmux = (socket: string, ...args: ReadonlyArray<string>) =>
  Effect.flatMap(DistributionPrograms.tmux, ({ path }) =>
    Effect.promise(() => promisify(execFile)(path, ["-L", socket, "-f", "/dev/null", ...args]))
  ).pipe(Effect.map(({ stdout }) => stdout))

let terminals = 0

/** What a terminal shows of a command when it is over, or, before it gets Ctrl-C, when it shows `until`. */
const shown = (args: string, env: Service.Environment, cwd: string, until?: RegExp) =>
  Effect.scoped(
    Effect.gen(function* () {
      const socket = `holdfast-${process.pid}-${terminals++}`
      const given = Object.entries(env).flatMap(([name, value]) => ["-e", `${name}=${value}`])
      const command = `trap : INT; "${process.execPath}" "${bin}" ${args}; echo "[exit $?]"; cat`
      const start = ["new-session", "-d", "-x", `${columns}`, "-y", "40", "-c", cwd, ...given, "sh", "-c", command]
      yield* Effect.acquireRelease(tmux(socket, ...start), () => Effect.ignore(tmux(socket, "kill-server")))
      const screen = tmux(socket, "capture-pane", "-p", "-S", "-200")
      const waited = (wanted: RegExp) =>
        Effect.repeat(screen, {
          until: (text) => wanted.test(text),
          schedule: Schedule.spaced("50 millis")
        }).pipe(Effect.timeout("60 seconds"))
      if (until === undefined) return yield* waited(/\[exit \d+\]/)
      const text = yield* waited(until)
      yield* tmux(socket, "send-keys", "C-c")
      yield* waited(/\[exit \d+\]/)
      return text
    })
  )

const say = (title: string, text: string) => console.log(`\n=== ${title}\n${text.trimEnd()}`)

const program = Effect.gen(function* () {
  const cwd = yield* Service.temporaryDirectory
  const base = { HOLDFAST_DEMO_PASSWORD: Service.demoPassword, HOLDFAST_PASSWORD: Service.demoPassword, PORT: "0" }
  const service = yield* Service.launch({ args: ["serve"], env: base, cwd })
  const url = yield* Service.listening(service)
  yield* Service.ready(url)
  const env = { ...base, PORT: new URL(url).port }
  const browser = yield* Client.login(Client.make(url), { username: "demo", password: Service.demoPassword })
  for (const sql of ["select 42 as answer", "select * from nowhere", "select count(*) from generate_series(1, 1000)"]) {
    const { id } = JSON.parse((yield* browser.send("POST", "/queries", { json: { sql } })).text)
    yield* browser.send("GET", `/queries/${id}/events`)
  }
  const script = "export default () => 42"
  yield* browser.send("POST", "/functions", { json: { language: "javascript", title: "the answer", script } })
  const sql = "select pg_sleep(600), 'a report of the year that takes a while'"
  const { id } = JSON.parse((yield* browser.send("POST", "/queries", { json: { sql } })).text)
  const sessions = JSON.parse((yield* browser.send("GET", "/sessions")).text)
  const all: ReadonlyArray<readonly [args: string, until?: RegExp]> = [
    ["serve", /\[exit|Holdfast is listening/],
    ["doctor"],
    ["config"],
    ["migrate --dry-run"],
    ["migrate"],
    ["prune"],
    ["users list"],
    ["users add alice --operator"],
    ["users end-sessions alice"],
    ["users remove alice"],
    ["users remove nobody"],
    ["sessions list"],
    [`sessions show ${sessions[0].id}`],
    ["queries list"],
    [`queries show ${id}`],
    ["functions list"],
    ["holdings"],
    ["top", /held/],
    ["--help"],
    ["users add --help"],
    ["queries"],
    ["users add"],
    ["queries list --help"],
    ["--version"],
    ["--completions bash | head -5"],
    ["frobnicate"],
    ["queries lst"]
  ]
  for (const [args, until] of all.filter(([args]) => only.some((word) => args.startsWith(word)))) {
    if (!process.argv.includes("--piped")) {
      const elsewhere = args === "serve" ? yield* Service.temporaryDirectory : cwd
      say(`holdfast ${args} (${columns} columns)`, yield* shown(args, args === "serve" ? base : env, elsewhere, until))
    }
    if (until !== undefined && args === "serve") continue
    const { code, stderr, stdout } = yield* Service.run({ args: args.split(" | ")[0]?.split(" ") ?? [], env, cwd })
    const lines = `${stdout}${stderr === "" ? "" : `[standard error]\n${stderr}`}`.split("\n")
    say(`holdfast ${args} | cat`, `${lines.slice(0, 30).join("\n")}\n[exit ${code}]`)
  }
})

await Effect.runPromise(Effect.scoped(program))
