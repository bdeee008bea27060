/**
 * Programs that an operator has, to hold what Holdfast gives them against: those on `PATH`, or the distribution's packages.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { text } from "node:stream/consumers"
import * as Effect from "effect/Effect"
import * as DistributionProgram from "../../src/testing/internal/DistributionProgram.ts"

/** Checks metrics and rules of Prometheus. */
export const promtool = DistributionProgram.find({
  cache: "prometheus",
  names: ["promtool"],
  packages: [{ name: "prometheus", file: "promtool", argv0: "promtool" }],
  advice: "Install prometheus (Debian: apt-get install prometheus) so that promtool is on PATH."
}).pipe(Effect.mapError((problem) => new Error(problem)))

/** A web server in front. */
export const nginx = DistributionProgram.find({
  cache: "nginx",
  names: ["nginx"],
  packages: [{ name: "nginx", file: "nginx", argv0: "nginx" }],
  advice: "Install nginx (Debian: apt-get install nginx) so that nginx is on PATH."
}).pipe(Effect.mapError((problem) => new Error(problem)))

/** Another one. */
export const caddy = DistributionProgram.find({
  cache: "caddy",
  names: ["caddy"],
  packages: [{ name: "caddy", file: "caddy", argv0: "caddy" }],
  advice: "Install caddy (Debian: apt-get install caddy) so that caddy is on PATH."
}).pipe(Effect.mapError((problem) => new Error(problem)))

/** Checks units of systemd. */
export const systemdAnalyze = DistributionProgram.find({
  cache: "systemd",
  names: ["systemd-analyze"],
  packages: [{ name: "systemd", file: "systemd-analyze", argv0: "systemd-analyze" }],
  advice: "Install systemd (Debian: apt-get install systemd) so that systemd-analyze is on PATH."
}).pipe(Effect.mapError((problem) => new Error(problem)))

/** A terminal that a program can look at. */
export const tmux = DistributionProgram.find({
  cache: "tmux",
  names: ["tmux"],
  packages: [{ name: "tmux", file: "tmux", argv0: "tmux" }],
  advice: "Install tmux (Debian: apt-get install tmux) so that tmux is on PATH."
}).pipe(Effect.mapError((problem) => new Error(problem)))

/** What a program wrote, on both outputs, and its exit code. */
export interface Ran {
  readonly code: number | null
  readonly output: string
}

/** Runs a program to its end, in a directory and with all of standard input; killed when it is interrupted. */
export const run = (
  { argv0, libraries, path }: DistributionProgram.Program,
  args: ReadonlyArray<string>,
  options: { readonly input?: string; readonly cwd?: string } = {}
) =>
  Effect.promise(async (signal): Promise<Ran> => {
    const env = { ...process.env, ...(libraries !== undefined && libraries !== "" && { LD_LIBRARY_PATH: libraries }) }
    const child = spawn(path, args, { argv0, cwd: options.cwd, env, signal, killSignal: "SIGKILL" })
    child.stdin.on("error", () => undefined).end(options.input ?? "")
    const closed = once(child, "close")
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)])
    const [code] = (await closed) as [number | null]
    return { code, output: stdout + stderr }
  })
