/**
 * The directory of a server that tests throw away, and what is left of such servers.
 *
 * A directory lives as long as the scope it was made in. It says whose it is, so that {@link sweep} finds those whose
 * test run was killed by force.
 */
import { promises as Fs } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Ledger from "../../lifetime/Ledger.ts"
import * as ProcessTable from "../../node/internal/ProcessTable.ts"

const ownerFile = "owner.json"
const OwnerJson = Schema.fromJsonString(ProcessTable.Identity)

/** Makes a directory among the system's temporary files, removed at the end. */
export const make = <E>(prefix: string, toError: (problem: string) => E): Effect.Effect<string, E, Scope.Scope> =>
  Ledger.hold(
    { kind: "temporary directory", id: prefix.replace(/-$/, ""), releaseLimit: "20 seconds" },
    Effect.tryPromise({
      try: async () => {
        const directory = await Fs.realpath(await Fs.mkdtemp(Path.join(tmpdir(), prefix)))
        // The server's user, where it is another, may go through.
        await Fs.chmod(directory, 0o711)
        const owner = ProcessTable.identityOf(process.pid)
        if (owner !== undefined) await writeIdentity(Path.join(directory, ownerFile), owner)
        return directory
      },
      catch: (cause) => toError(cause instanceof Error ? cause.message : String(cause))
    }),
    (directory) => remove(directory)
  )

/** Notes who a process is, for {@link readIdentity}. */
export const writeIdentity = (file: string, identity: ProcessTable.Identity): Promise<void> =>
  Fs.writeFile(file, Schema.encodeSync(OwnerJson)(identity))

/** Who a file says a process is, and undefined where it says nothing. */
export const readIdentity = (file: string): Effect.Effect<ProcessTable.Identity | undefined> =>
  Effect.promise(() => Fs.readFile(file, "utf8").catch(() => undefined)).pipe(
    Effect.map((text) => Option.getOrUndefined(Schema.decodeUnknownOption(OwnerJson)(text)))
  )

const remove = (directory: string) =>
  Effect.promise(() => Fs.rm(directory, { recursive: true, force: true, maxRetries: 10 }))

/** Removes what test runs of ours left that were killed by force: their servers and their directories. */
export const sweep = <E>(prefix: string, stop: (directory: string) => Effect.Effect<void, E>): Effect.Effect<void, E> =>
  Effect.gen(function* () {
    const names = yield* Effect.promise(() => Fs.readdir(tmpdir()).catch((): Array<string> => []))
    for (const name of names.filter((name) => name.startsWith(prefix))) {
      const directory = Path.join(yield* Effect.promise(() => Fs.realpath(tmpdir())), name)
      const ours = yield* Effect.promise(() =>
        Fs.lstat(directory).then(
          (stat) => stat.isDirectory() && stat.uid === process.getuid?.(),
          () => false
        )
      )
      const owner = ours ? yield* readIdentity(Path.join(directory, ownerFile)) : undefined
      if (owner === undefined || ProcessTable.isAlive(owner)) continue
      yield* stop(directory)
      yield* remove(directory)
    }
  })
