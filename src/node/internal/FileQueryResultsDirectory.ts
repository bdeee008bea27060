/**
 * The directory that a program keeps rows in.
 *
 * It lives as long as the scope it was made in. One that was left by a program that died is removed by the next that
 * makes one in the same place.
 *
 * **Details**
 *
 * The name says which process it belongs to: a mark of the machine, the number, and a mark of the moment the process was
 * started, because numbers are used again. A process that cannot be looked for from here, on another machine or in
 * another container, is taken to be alive.
 */
import { createHash } from "node:crypto"
import { accessSync, constants, lstatSync, mkdtempSync, promises as Fs, readlinkSync, rmSync } from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as Ledger from "../../lifetime/Ledger.ts"
import * as ProcessTable from "./ProcessTable.ts"
import { QueryError, ResultsUnavailable } from "../../query/QueryError.ts"

const mark = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 12)

const pidNamespace = (): string => {
  try {
    return readlinkSync("/proc/self/ns/pid")
  } catch {
    return ""
  }
}
const machine = () => mark(`${Os.hostname()} ${pidNamespace()}`)
const started = (pid: number) => mark(ProcessTable.identityOf(pid)?.startedAt ?? "")

const prefixOf = (pid: number) => `holdfast-results-${machine()}-${pid}-${started(pid)}-`
const pattern = /^holdfast-results-([0-9a-f]{12})-(\d+)-[0-9a-f]{12}-[A-Za-z0-9]{6}$/

const isAbandoned = (name: string): boolean => {
  const [, where, pid] = pattern.exec(name) ?? []
  return where === machine() && !name.startsWith(prefixOf(Number(pid)))
}

/** What cannot be removed stays for somebody who can. */
const removeAbandoned = (parent: string) =>
  Effect.promise(async (signal) => {
    for (const name of await Fs.readdir(parent).catch((): Array<string> => [])) {
      if (signal.aborted) return
      if (!isAbandoned(name)) continue
      const path = Path.join(parent, name)
      const owner = await Fs.lstat(path).catch(() => undefined)
      if (owner?.isDirectory() !== true || owner.uid !== (process.getuid?.() ?? owner.uid)) continue
      await Fs.rm(path, { recursive: true, force: true }).catch(() => undefined)
    }
  })

/** A directory that is ours. */
export interface Directory {
  /** Where it is now. */
  readonly path: () => string
  /** Makes another one where it is gone, as cleaners of temporary files remove what looks old; what was in it is lost. */
  readonly ensure: Effect.Effect<void, QueryError>
}

/** Only we may look into it. */
const makeBelow = (parent: string) =>
  Effect.try({
    try: () => mkdtempSync(Path.join(parent, prefixOf(process.pid))),
    catch: (cause) =>
      new QueryError({
        reason: new ResultsUnavailable({
          problem: `Rows cannot be kept below ${parent}: ${String(cause)}. Give a directory that exists and can be written, or set TMPDIR.`
        })
      })
  })

const isUsable = (path: string): boolean => {
  try {
    const { uid } = lstatSync(path)
    accessSync(`${path}${Path.sep}`, constants.W_OK | constants.X_OK)
    return uid === (process.getuid?.() ?? uid)
  } catch {
    return false
  }
}

/**
 * Makes a directory below `parent`, which has to exist, for the current scope; only we may look into it. What others left
 * there is removed in the meantime: it may be much, and nobody has to wait for it.
 */
export const make = Effect.fnUntraced(function* (parent: string) {
  const paths = yield* Ledger.hold(
    ([path]: ReadonlyArray<string>) => ({ kind: "results directory", id: Path.basename(path ?? "") }),
    Effect.map(makeBelow(parent), (path) => [path]),
    // The results are gone, so this is nothing to wait for.
    (paths) => Effect.sync(() => paths.forEach((path) => rmSync(path, { recursive: true, force: true })))
  )
  yield* Effect.forkScoped(removeAbandoned(parent))
  const path = () => paths.at(-1) ?? ""
  // What is wrong with a path is for the log; the reader of the error may be anybody.
  const again = makeBelow(parent).pipe(
    Effect.tapError((error) => LogEvent.error({ event: "results.unavailable" }, error.message)),
    Effect.mapError(
      () =>
        new QueryError({
          reason: new ResultsUnavailable({ problem: "Rows cannot be kept at the moment. Try again later." })
        })
    ),
    Effect.flatMap((made) => {
      paths.push(made)
      return LogEvent.warning(
        { event: "results.moved", directory: made },
        `The directory of rows is gone. Rows that were in it are lost; ${made} is used now.`
      )
    })
  )
  const directory: Directory = {
    path,
    ensure: Effect.suspend(() => (isUsable(path()) ? Effect.void : again))
  }
  return directory
})
