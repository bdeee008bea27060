/**
 * Who else runs on this machine: the identity of a process, its command line and its working directory.
 *
 * Nothing here lives longer than the call: each answer is a look at the operating system at that moment. An
 * {@link Identity} stays true for ever: it names one process, also after its number was given to another.
 *
 * **Details**
 *
 * Linux answers from `/proc`; elsewhere `ps` is asked.
 */
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Schema from "effect/Schema"

/** One process, told apart from every other that has or will have its number. */
export const Identity = Schema.Struct({ pid: Schema.Int, startedAt: Schema.String })
export type Identity = typeof Identity.Type

const attempt = <A>(read: () => A): A | undefined => {
  try {
    return read()
  } catch {
    return undefined
  }
}

const ps = (pid: number, column: string): string | undefined =>
  attempt(() => execFileSync("ps", ["-o", `${column}=`, "-p", String(pid)], { encoding: "utf8" }).trim() || undefined)

/** When a process was started, in whatever form the system has that does not change; `undefined` when there is none. */
const startOf = (pid: number): string | undefined => {
  if (process.platform !== "linux") return ps(pid, "lstart")
  const stat = attempt(() => Fs.readFileSync(`/proc/${pid}/stat`, "utf8"))
  // The second field is the name in parentheses and may itself hold spaces and parentheses.
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ")
  const state = fields?.[0]
  if (fields === undefined || state === "Z" || state === "X") return undefined
  const boot = attempt(() => Fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()) ?? ""
  return `${fields[19]}@${boot}`
}

/** The identity of the living process with this number. A zombie is not alive. */
export const identityOf = (pid: number): Identity | undefined => {
  const startedAt = startOf(pid)
  return startedAt === undefined ? undefined : { pid, startedAt }
}

/** Whether that very process is alive. */
export const isAlive = (identity: Identity): boolean => startOf(identity.pid) === identity.startedAt

/** The command line of a process, its arguments parted by a space; empty when it is gone. */
export const commandOf = (pid: number): string =>
  process.platform === "linux"
    ? (attempt(() => Fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim()) ?? "")
    : (ps(pid, "args") ?? "")

/**
 * The processes of one program that work in a directory. Every process of a PostgreSQL server works in its data
 * directory, so this also finds those that outlived their postmaster. Empty where the system does not say.
 */
export const workingIn = (directory: string, program: string): ReadonlyArray<number> =>
  (attempt(() => Fs.readdirSync("/proc")) ?? [])
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter(
      (pid) =>
        attempt(() => Fs.readlinkSync(`/proc/${pid}/cwd`)) === directory &&
        Path.basename(attempt(() => Fs.readlinkSync(`/proc/${pid}/exe`)) ?? "").replace(/ \(deleted\)$/, "") === program
    )

/** Sends a signal to that very process; false when it is gone or not ours to signal. */
export const signal = (identity: Identity, name: NodeJS.Signals): boolean =>
  isAlive(identity) && attempt(() => process.kill(identity.pid, name)) === true
