/**
 * Begins a run with the files that share processes, so that those go from one file to the next, and with the files that take longest:
 * a long file that begins last runs alone, and the other workers have nothing to do.
 *
 * Vitest knows the durations of its last run. A fresh checkout has no last run, and the size of a file says little about its time.
 */
import { existsSync } from "node:fs"
import * as Path from "node:path"
import { BaseSequencer, type TestSpecification } from "vitest/node"

/** Below test/, without `.test.ts`; the longest first, as the report of a whole run has them. What is not named follows by size. */
const longest = [
  "connection/ConnectionLaws",
  "server/serve.availability",
  "server/serve.twoProcesses",
  "console/console",
  "server/serve.redis",
  "embedded/EmbeddedPostgres",
  "server/serve.connections",
  "server/serve.twoProcessesRedis",
  "server/serve.sessions",
  "server/serve.engines",
  "server/serve.configuration",
  "connection/ConnectionSilence",
  "postgres/PgConnectionPool",
  "postgres/PgSilence",
  "server/serve.users",
  "server/serve.logins",
  "server/serve.silence",
  "server/serve.shared",
  "session/SessionStore",
  "token/TokenProcesses",
  "server/serve.walk",
  "server/serve.snowflake",
  "server/serve.roles",
  "postgres/PgQueryDriverCancel",
  "postgres/PgSessionStore",
  "server/Readiness",
  "server/serve.embedded",
  "server/serve.functions",
  "server/serve.signals",
  "postgres/PgQueryDriverMemory",
  "session/SessionHandle",
  "function/MicroPythonRuntime",
  "connection/ConnectionFaults",
  "server/serve.commands",
  "server/serve.events",
  "server/serve.queryRole",
  "docs/testing",
  "server/serve.loop",
  "server/UnknownUsers",
  "token/TokenRepository"
]

const directory = Path.join(import.meta.dirname, "..")
const places = new Map(longest.map((name, place) => [Path.join(directory, `${name}.test.ts`), place]))

export default class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    for (const path of places.keys()) {
      if (!existsSync(path))
        throw new Error(`There is no ${path}. Take it out of the list of the longest files, or rename it there.`)
    }
    const place = ({ moduleId, project }: TestSpecification) =>
      (places.get(moduleId) ?? longest.length) + (project.config.isolate ? places.size + 1 : 0)
    // oxlint-disable-next-line unicorn/no-array-sort -- it is the sequencer's
    const usual = await super.sort(files)
    return usual.toSorted((a, b) => place(a) - place(b))
  }
}
