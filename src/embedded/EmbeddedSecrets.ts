/**
 * The passwords of the embedded database: random, made once, kept beside its data in a file only its owner may read.
 *
 * They live as long as the data. What is returned is a snapshot; {@link demoPassword} may add to the file later.
 */
import { randomBytes } from "node:crypto"
import { promises as Fs } from "node:fs"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { EmbeddedPostgresError, SecretsUnusable } from "./EmbeddedPostgresError.ts"
import { onFiles } from "./PostgresBinaries.ts"
import type { PostgresProcessError } from "./PostgresProcessError.ts"

const Password = Schema.Redacted(Schema.String.check(Schema.isPattern(/^[\w-]{22,}$/)))

/** One password per role, and one for the service's user `demo` once it was asked for. */
export const Secrets = Schema.Struct({
  superuser: Password,
  owner: Password,
  workspace: Password,
  demo: Schema.optionalKey(Password)
})
export type Secrets = typeof Secrets.Type

const SecretsJson = Schema.fromJsonString(Schema.toCodecJson(Secrets))

const fileOf = (directory: string) => Path.join(directory, "secrets.json")
const random = () => Redacted.make(randomBytes(24).toString("base64url"))

const read = Effect.fnUntraced(function* (
  directory: string
): Effect.fn.Return<Secrets | undefined, EmbeddedPostgresError | PostgresProcessError> {
  const file = fileOf(directory)
  const text = yield* onFiles(file, async () => {
    try {
      if (((await Fs.stat(file)).mode & 0o077) !== 0) await Fs.chmod(file, 0o600)
      return await Fs.readFile(file, "utf8")
    } catch (cause) {
      if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined
      throw cause
    }
  })
  if (text === undefined) return undefined
  // The decoder's own message would quote the file.
  return yield* Effect.mapError(Schema.decodeUnknownEffect(SecretsJson)(text), () =>
    unusable(directory, "it does not hold what Holdfast wrote there")
  )
})

const unusable = (directory: string, problem: string) =>
  new EmbeddedPostgresError({ reason: new SecretsUnusable({ file: fileOf(directory), problem }) })

/** Written whole or not at all, with mode 600, for the owner of the directory also when we are root. */
const write = (directory: string, secrets: Secrets) =>
  onFiles(fileOf(directory), async () => {
    const file = fileOf(directory)
    const text = Schema.encodeSync(SecretsJson)(secrets)
    await Fs.writeFile(`${file}.new`, `${text}\n`, { mode: 0o600, flush: true })
    await Fs.chmod(`${file}.new`, 0o600)
    const owner = await Fs.stat(directory)
    if (process.getuid?.() === 0) await Fs.chown(`${file}.new`, owner.uid, owner.gid)
    await Fs.rename(`${file}.new`, file)
  })

/** The passwords of a directory that has some. */
export const load = Effect.fn("EmbeddedSecrets.load")(function* (
  directory: string
): Effect.fn.Return<Secrets, EmbeddedPostgresError | PostgresProcessError> {
  return (yield* read(directory)) ?? (yield* unusable(directory, "there is no such file, although there is data"))
})

/** The passwords of a directory; made now when it is new. */
export const loadOrMake = Effect.fn("EmbeddedSecrets.loadOrMake")(function* (
  directory: string
): Effect.fn.Return<Secrets, EmbeddedPostgresError | PostgresProcessError> {
  const found = yield* read(directory)
  if (found !== undefined) return found
  const secrets: Secrets = { superuser: random(), owner: random(), workspace: random() }
  yield* write(directory, secrets)
  return secrets
})

/** The password of the user `demo`: made and kept when it is asked for the first time. */
export const demoPassword = Effect.fn("EmbeddedSecrets.demoPassword")(function* (
  directory: string
): Effect.fn.Return<Redacted.Redacted, EmbeddedPostgresError | PostgresProcessError> {
  const secrets = yield* load(directory)
  if (secrets.demo !== undefined) return secrets.demo
  const demo = random()
  yield* write(directory, { ...secrets, demo })
  return demo
})
