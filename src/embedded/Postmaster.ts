/**
 * The postmaster of a data directory: whether one lives there, and how it is ended.
 *
 * Nothing here lives longer than the call. A postmaster that {@link PostgresProcess} started ends with its scope by
 * {@link shutDown}; {@link stopOrphan} is for one whose program died without closing anything.
 *
 * **Gotchas**
 *
 * One data directory, one caller at a time: {@link stopOrphan} takes no lock of its own. The shutdown waits in real
 * time, also under a test's clock.
 */
import { execFile } from "node:child_process"
import { promises as Fs, readFileSync } from "node:fs"
import * as Path from "node:path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import { onFiles } from "./PostgresBinaries.ts"
import { AlreadyRunning, PostgresProcessError } from "./PostgresProcessError.ts"
import * as ProcessTable from "../node/internal/ProcessTable.ts"

/** Lets an effect wait in real time: a process of the operating system knows no other. */
export const inRealTime = Effect.provideService(Clock.Clock, Clock.Clock.defaultValue())

/** What a server says about itself in its data directory. */
export interface Running {
  readonly identity: ProcessTable.Identity
  readonly port: number
  readonly ready: boolean
}

/** The living server of a data directory. A lock file whose process is another program's counts for nothing. */
export const running = (directory: string): Effect.Effect<Running | undefined> =>
  Effect.sync(() => {
    const file = readPidFile(directory)
    const identity = file === undefined ? undefined : ProcessTable.identityOf(file.pid)
    if (file === undefined || identity === undefined) return undefined
    const command = `${ProcessTable.commandOf(file.pid)} `
    return command.includes("postgres") && command.includes(` -D ${directory} `)
      ? { identity, port: file.port, ready: file.ready }
      : undefined
  })

/** Lines of `postmaster.pid`: process, directory, start, port, socket directory, address, shared memory, status. */
export const readPidFile = (directory: string) => {
  try {
    const lines = readFileSync(Path.join(directory, "postmaster.pid"), "utf8").split("\n")
    const [, memory] = lines[6]?.trim().split(/\s+/) ?? []
    return { pid: Number(lines[0]), port: Number(lines[3]), memory, ready: lines[7]?.trim() === "ready" }
  } catch {
    return undefined
  }
}

/** Ends the server that a dead program left on a data directory, and whatever is left of it. */
export const stopOrphan = Effect.fn("PostgresProcess.stopOrphan")(function* (
  directory: string
): Effect.fn.Return<void, PostgresProcessError> {
  const orphan = yield* running(directory)
  if (orphan !== undefined) {
    const { identity } = orphan
    yield* LogEvent.info(
      { event: "embedded.orphan", pid: identity.pid },
      `Stopping the PostgreSQL server (pid ${identity.pid}) that an ended program left behind`
    )
    yield* shutDown(
      directory,
      (signal) => ProcessTable.signal(identity, signal),
      Effect.repeat(
        Effect.sync(() => ProcessTable.isAlive(identity)),
        { while: (alive) => alive, schedule: Schedule.spaced("10 millis") }
      )
    )
    if (ProcessTable.isAlive(identity)) {
      return yield* new PostgresProcessError({ reason: new AlreadyRunning({ directory, pid: identity.pid }) })
    }
  }
  killRemains(directory)
  if (readPidFile(directory) === undefined) return
  // The number may belong to a stranger by now, or to a dead process that nobody collects, and the server would take
  // that for itself. It is replaced by one that no system gives out; the rest stays, because the server checks by it that
  // its shared memory is no longer in use.
  const path = Path.join(directory, "postmaster.pid")
  yield* onFiles(path, async () => Fs.writeFile(path, (await Fs.readFile(path, "utf8")).replace(/^.*/, "2147483647")))
})

/**
 * Gives back what a server that was killed still holds of the system: a segment of System V shared memory, of which a system has a
 * few thousand, or 32. The next start of the server would do it; this is for a directory that sees none.
 */
export const releaseMemory = (directory: string): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const memory = readPidFile(directory)?.memory
    if (memory === undefined || !/^\d+$/.test(memory)) return resume(Effect.void)
    execFile("ipcrm", ["-m", memory], () => resume(Effect.void))
  })

const killRemains = (directory: string): void => {
  for (const pid of ProcessTable.workingIn(directory, "postgres")) {
    const identity = ProcessTable.identityOf(pid)
    if (identity !== undefined) ProcessTable.signal(identity, "SIGKILL")
  }
}

/** Ends a postmaster: fast, then immediately, then by force; each has its time. Never fails. */
export const shutDown = (directory: string, signal: (name: NodeJS.Signals) => void, gone: Effect.Effect<unknown>) =>
  Effect.gen(function* () {
    for (const name of ["SIGINT", "SIGQUIT", "SIGKILL"] as const) {
      signal(name)
      const done = yield* Effect.timeoutOption(Effect.interruptible(gone), "6 seconds")
      if (name === "SIGKILL") killRemains(directory)
      if (Option.isSome(done)) return
    }
  }).pipe(inRealTime)
