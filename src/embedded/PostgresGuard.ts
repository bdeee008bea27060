/**
 * Ends a PostgreSQL server when the program that started it is gone, by whatever: also a `kill -9` of the program.
 *
 * A guard is a small shell. It lives from before the server starts until the server is gone. It holds one end of a pipe, and
 * the program holds the other end and never writes its own death: the operating system closes the pipe.
 *
 * ```
 * program ──── pipe ────► guard          the pipe closes: SIGINT, SIGQUIT, SIGKILL to the server, six seconds each
 *    │                      ▲
 *    └─► server ── its pid ─┘            said by the server's own process before it becomes PostgreSQL
 * ```
 *
 * **Details**
 *
 * The guard hears the pid from the server's process itself, which holds the pipe open until then. So there is no moment in
 * which the server runs, the program is gone and nobody knows it. Where there is no shell (Windows) there is no guard, and
 * the next start ends what was left.
 */
import { type ChildProcess, spawn, type SpawnOptions } from "node:child_process"
import type { ServerUser } from "./PostgresBinaries.ts"
import * as PostgresBinaries from "./PostgresBinaries.ts"

/** Waits for the pid, then for the end of the program. A second line says that the server ended before. */
const watch = `
trap '' HUP INT QUIT TERM
read -r pid || exit 0
read -r over && exit 0
for name in INT QUIT KILL; do
  tries=0
  while [ $tries -lt 60 ]; do
    kill -s $([ $tries -eq 0 ] && echo $name || echo 0) "$pid" 2>/dev/null || exit 0
    sleep 0.1 2>/dev/null || sleep 1
    tries=$((tries + 1))
  done
done`

/** Says its pid, and becomes the server. */
const become = 'echo $$ >&3 && exec "$@" 3>&-'

/** Starts a server below a guard; `log` takes what both say. */
export const start = (command: string, args: ReadonlyArray<string>, user: ServerUser, log: number): ChildProcess => {
  const options = { ...user, cwd: "/", env: PostgresBinaries.environment, detached: true } satisfies SpawnOptions
  const guard =
    process.platform === "win32"
      ? undefined
      : spawn("/bin/sh", ["-c", watch, "holdfast-postgres-guard"], { ...options, stdio: ["pipe", log, log] })
  const pipe = guard?.stdin
  if (guard === undefined || pipe == null) return spawn(command, args, { ...options, stdio: ["ignore", log, log] })
  // The death of the guard takes nothing away but the guard.
  guard.on("error", () => undefined).unref()
  pipe.on("error", () => undefined)
  const server = spawn("/bin/sh", ["-c", become, "sh", command, ...args], {
    ...options,
    stdio: ["ignore", log, log, pipe]
  })
  const over = () => pipe.end("over\n")
  return server.once("exit", over).once("error", over)
}
