/**
 * What users' statements may take of the machine that they share with the service.
 *
 * A statement that computes for an hour takes a processor for an hour. Where the database is on the same machine, the service and
 * Holdfast's own statements go first: a backend that runs users' SQL has a low priority (nice 10) for as long as it lives, and takes
 * what the others leave, which on an idle machine is everything. It is not the lowest there is: a backend that holds a lock of the
 * server must get on.
 *
 * **Details**
 *
 * Each backend is the leader of a session of its own. Where Linux shares the processors between sessions first
 * (`sched_autogroup_enabled`), the priority within a session changes nothing, so the one of the session is lowered, too. See
 * sched(7), "The autogroup feature".
 */
import { promises as Fs } from "node:fs"
import { constants, setPriority } from "node:os"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlSchema from "effect/sql/SqlSchema"

const low = constants.priority.PRIORITY_BELOW_NORMAL

/** The system takes only a few such changes at a time, and says `EAGAIN` to more. */
const lowerSession = (pid: number) =>
  Effect.tryPromise({
    try: () => Fs.writeFile(`/proc/${pid}/autogroup`, String(low)),
    catch: (cause) => cause as NodeJS.ErrnoException
  }).pipe(
    Effect.retry({ while: ({ code }) => code === "EAGAIN", schedule: Schedule.spaced("150 millis"), times: 20 }),
    // There are systems without it.
    Effect.ignore
  )

/** Gives a process of this machine a low priority. A process that is not ours keeps the priority it has. */
export const lower = (pid: number): Effect.Effect<void> =>
  Effect.andThen(
    Effect.ignore(
      Effect.try({
        try: () => setPriority(pid, low),
        catch: (cause) => cause
      })
    ),
    lowerSession(pid)
  )

const Row = Schema.Struct({ pid: Schema.Int })

/** For each new connection of a server on this machine on which users' SQL is to run. */
export const behindTheService: Effect.Effect<void, unknown, SqlClient.SqlClient> = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const backend = SqlSchema.findOne({
    Request: Schema.Undefined,
    Result: Row,
    execute: () => sql.unsafe("select pg_catalog.pg_backend_pid() as pid").unprepared
  })
  const { pid } = yield* backend(undefined)
  yield* lower(pid)
})
