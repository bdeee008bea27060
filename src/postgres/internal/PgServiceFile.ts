/**
 * The two files that libpq reads: services ("The Connection Service File") and passwords ("The Password File").
 *
 * They are read each time they are needed and never written.
 */
import { readFileSync, statSync } from "node:fs"
import { homedir } from "node:os"
import * as Path from "node:path"

/** The environment, or the part of it that is meant. */
export type Environment = Readonly<Record<string, string | undefined>>

const read = (path: string): string | undefined => {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return undefined
  }
}

const homeOf = (environment: Environment): string => environment["HOME"] ?? homedir()

/** What is wrong with a service. */
export class ServiceProblem {
  readonly problem: string
  constructor(problem: string) {
    this.problem = problem
  }
}

/** The parameters under `[name]` in the text of a service file; `undefined` where there is no such service. */
const sectionOf = (text: string, name: string): ReadonlyMap<string, string> | undefined => {
  let found: Map<string, string> | undefined
  for (const line of text.split("\n").map((line) => line.trim())) {
    if (line === "" || line.startsWith("#")) continue
    if (line.startsWith("[")) {
      if (found !== undefined) return found
      if (line === `[${name}]`) found = new Map()
      continue
    }
    const at = line.indexOf("=")
    if (found !== undefined && at > 0) found.set(line.slice(0, at).trim(), line.slice(at + 1).trim())
  }
  return found
}

/**
 * The parameters of a service. The file is `PGSERVICEFILE` or `~/.pg_service.conf`; where that has no such service,
 * `pg_service.conf` in `PGSYSCONFDIR`.
 */
export const service = (name: string, environment: Environment): ReadonlyMap<string, string> | ServiceProblem => {
  const own = environment["PGSERVICEFILE"] ?? Path.join(homeOf(environment), ".pg_service.conf")
  const system = environment["PGSYSCONFDIR"]
  const paths = system === undefined ? [own] : [own, Path.join(system, "pg_service.conf")]
  for (const path of paths) {
    const text = read(path)
    if (text === undefined) {
      if (path === environment["PGSERVICEFILE"]) {
        return new ServiceProblem("which is in PGSERVICEFILE, a file that Holdfast must be able to read")
      }
      continue
    }
    const found = sectionOf(text, name)
    if (found !== undefined) return found
  }
  return new ServiceProblem("which must be in PGSERVICEFILE, ~/.pg_service.conf or PGSYSCONFDIR/pg_service.conf")
}

/** Whom a password is for. */
export interface Login {
  readonly host: string
  readonly port: string
  readonly database: string
  readonly user: string
}

/** The fields of a line: a backslash takes away the meaning of a colon or of another backslash. */
const fieldsOf = (line: string): ReadonlyArray<string> =>
  (line.match(/(?:\\.|[^:\\])*(?::|$)/g) ?? []).map((field) => field.replace(/:$/, "").replaceAll(/\\(.)/g, "$1"))

/** Others may not read it, as libpq wants it: otherwise it does not count. */
const isPrivate = (path: string): boolean => {
  try {
    return process.platform === "win32" || (statSync(path).mode & 0o077) === 0
  } catch {
    return false
  }
}

/** The password of the first line that fits, in `path` or `~/.pgpass`. */
export const password = (login: Login, path: string | undefined, environment: Environment): string | undefined => {
  const file = path ?? Path.join(homeOf(environment), ".pgpass")
  if (!isPrivate(file)) return undefined
  const wanted = [login.host, login.port, login.database, login.user]
  for (const line of (read(file) ?? "").split(/\r?\n/)) {
    if (line.startsWith("#")) continue
    const fields = fieldsOf(line)
    if (wanted.every((value, index) => fields[index] === "*" || fields[index] === value)) {
      if (fields[4] !== undefined) return fields[4]
    }
  }
  return undefined
}
