/**
 * Why the embedded database could not be had. One error for the area; the `reason` says which case it is.
 */
import * as Schema from "effect/Schema"

/** Another living program serves from the directory. */
export class AlreadyServed extends Schema.TaggedError<AlreadyServed>(
  "holdfast/embedded/EmbeddedPostgresError/AlreadyServed"
)("AlreadyServed", { directory: Schema.String, pid: Schema.Int }) {
  override get message(): string {
    return (
      `The embedded database in ${this.directory} is in use by another Holdfast (pid ${this.pid}). ` +
      `Stop that one first, or give this one a database of its own with DATABASE_URL.`
    )
  }
}

/** The file with the passwords is missing beside existing data, or is not what it was when it was written. */
export class SecretsUnusable extends Schema.TaggedError<SecretsUnusable>(
  "holdfast/embedded/EmbeddedPostgresError/SecretsUnusable"
)("SecretsUnusable", { file: Schema.String, problem: Schema.String }) {
  override get message(): string {
    return (
      `The passwords of the embedded database cannot be read from ${this.file}: ${this.problem}. ` +
      `Put the file back as it was, or move its directory away to begin with an empty database.`
    )
  }
}

/** The server runs, and its roles and databases could not be set up. */
export class SetupFailed extends Schema.TaggedError<SetupFailed>("holdfast/embedded/EmbeddedPostgresError/SetupFailed")(
  "SetupFailed",
  { directory: Schema.String, problem: Schema.String, cause: Schema.Defect() }
) {
  override get message(): string {
    return (
      `The roles and databases in ${this.directory} could not be set up: ${this.problem}. ` +
      `Look into data.log there, or move the directory away to begin with an empty database.`
    )
  }
}

/** The error of the embedded database, beside those of the server's process. */
export class EmbeddedPostgresError extends Schema.TaggedError<EmbeddedPostgresError>(
  "holdfast/embedded/EmbeddedPostgresError"
)("EmbeddedPostgresError", { reason: Schema.Union([AlreadyServed, SecretsUnusable, SetupFailed]) }) {
  override get message(): string {
    return this.reason.message
  }
}
