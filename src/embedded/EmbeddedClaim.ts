/**
 * Which program serves from a directory: at most one at a time.
 *
 * A claim lives as long as the scope it was taken in, and dies with its program: it is a file that names the process,
 * and counts for nothing when that very process is gone, however its number is used since.
 *
 * **Details**
 *
 * Everybody writes a file of his own first and then looks for others. Of two who claim at the same moment at least one
 * sees the other and withdraws, so never two hold the directory, and no file has to be taken away from anybody: the file
 * of a dead process can be removed by the process that finds it. Who withdrew from a claim that is still being decided tries
 * again a few times.
 */
import { randomBytes } from "node:crypto"
import { promises as Fs } from "node:fs"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Ledger from "../lifetime/Ledger.ts"
import { AlreadyServed, EmbeddedPostgresError } from "./EmbeddedPostgresError.ts"
import { onFiles } from "./PostgresBinaries.ts"
import { inRealTime } from "./Postmaster.ts"
import type { PostgresProcessError } from "./PostgresProcessError.ts"
import * as ProcessTable from "../node/internal/ProcessTable.ts"

/** What the file of a claim says. The port is there from the moment others may connect. */
const Record = Schema.Struct({
  program: ProcessTable.Identity,
  port: Schema.optionalKey(Schema.Int)
})
const RecordJson = Schema.fromJsonString(Record)

/** The process that serves from a directory now. */
export type Holder = typeof Record.Type

/** A claim that is held. */
export interface Claim {
  /** Tells others that they may connect. */
  readonly announce: (port: number) => Effect.Effect<void, PostgresProcessError>
}

const write = (file: string, record: Holder) =>
  onFiles(file, async () => {
    await Fs.writeFile(`${file}.new`, Schema.encodeSync(RecordJson)(record), { mode: 0o644 })
    await Fs.rename(`${file}.new`, file)
  })

const remove = (file: string) => Effect.promise(() => Fs.rm(file, { force: true }))

/** The living claims on a directory, the files of dead ones removed. */
const living = (directory: string, except?: string): Effect.Effect<ReadonlyArray<Holder>> =>
  Effect.promise(async () => {
    const names = await Fs.readdir(directory).catch((): Array<string> => [])
    const holders: Array<Holder> = []
    for (const name of names) {
      const file = Path.join(directory, name)
      if (!/^program-[^.]+\.json$/.test(name) || file === except) continue
      const text = await Fs.readFile(file, "utf8").catch(() => undefined)
      if (text === undefined) continue
      const record = Option.getOrUndefined(Schema.decodeUnknownOption(RecordJson)(text))
      if (record !== undefined && ProcessTable.isAlive(record.program)) holders.push(record)
      else await Fs.rm(file, { force: true }).catch(() => undefined)
    }
    return holders
  })

/** Who serves from a directory, if anybody does. */
export const holder = (directory: string): Effect.Effect<Holder | undefined> =>
  Effect.map(living(directory), (holders) => holders[0])

/** Takes a directory for the current scope, or fails with `AlreadyServed`. */
export const take = Effect.fn("EmbeddedClaim.take")(function* (
  directory: string
): Effect.fn.Return<Claim, EmbeddedPostgresError | PostgresProcessError, Scope.Scope> {
  const program = ProcessTable.identityOf(process.pid) ?? { pid: process.pid, startedAt: "" }
  // A name is used once: the removal of a dead process's file must not hit a living process.
  const attempt = Effect.gen(function* () {
    const file = Path.join(directory, `program-${process.pid}-${randomBytes(6).toString("hex")}.json`)
    return yield* write(file, { program }).pipe(
      Effect.andThen(living(directory, file)),
      Effect.flatMap(([other]) => (other === undefined ? Effect.succeed(file) : Effect.fail(new Contested({ other })))),
      Effect.onExit((exit) => (Exit.isFailure(exit) ? remove(file) : Effect.void))
    )
  }).pipe(
    Effect.retry({
      while: (error) => error._tag === "Contested" && error.other.port === undefined,
      schedule: Schedule.jittered(Schedule.spaced("50 millis")),
      times: 10
    }),
    inRealTime,
    Effect.catchTag("Contested", ({ other }) =>
      Effect.fail(new EmbeddedPostgresError({ reason: new AlreadyServed({ directory, pid: other.program.pid }) }))
    )
  )
  const file = yield* Ledger.hold({ kind: "embedded database", id: directory }, attempt, remove)
  return { announce: (port) => write(file, { program, port }) }
})

class Contested extends Schema.TaggedError<Contested>("holdfast/embedded/EmbeddedClaim/Contested")("Contested", {
  other: Record
}) {}
