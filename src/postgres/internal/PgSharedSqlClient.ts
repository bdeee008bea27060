/**
 * A `SqlClient` for short statements, many of which travel on each of a few PostgreSQL connections.
 *
 * The connections live as long as the scope the client was made in and are opened when they are first needed. A transaction
 * or a stream has one of them to itself until it is over.
 *
 * **Details**
 *
 * A statement that gets no answer within the limit fails, and neither its connection nor its like are used again, see
 * `PgSiblings`: the network is gone. One that is long under way while the network is gone is noticed by `PgSilence`. A statement
 * whose caller is interrupted goes on at the server, because it cannot be cancelled alone.
 */
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import type * as PgPool from "@effect/sql-pg/PgPool"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as SqlClient from "effect/sql/SqlClient"
import { SqlError, StatementTimeoutError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import * as TimeLimit from "../../lifetime/TimeLimit.ts"
import type * as PgOutages from "./PgOutages.ts"
import * as PgOpening from "./PgOpening.ts"
import * as PgSiblings from "./PgSiblings.ts"
import * as PgReaper from "./PgReaper.ts"
import * as PgSilence from "./PgSilence.ts"
import * as PgSqlClient from "./PgSqlClient.ts"

/** How long a client that closes waits for the server to be rid of what was given up. */
const endLimit = Duration.millis(300)

const late = new SqlError({
  reason: new StatementTimeoutError({
    cause: new Error("No answer from the server"),
    message: "The server did not answer in time. Whether the statement took effect is not known.",
    operation: "query"
  })
})

/** Makes the client; no statement waits for longer than `limit`. The log of outages says what the database is `of`. */
export const make = Effect.fnUntraced(function* (
  config: PgPool.Config & Pick<PgOutages.Use, "url">,
  limit: Duration.Duration,
  of = "the shared client"
) {
  const within = yield* TimeLimit.make(limit, () => late)
  const silence = yield* PgSilence.make({ ...config, applicationName: "holdfast-watch" })
  const reaper = yield* PgReaper.make({ ...config, applicationName: "holdfast-reaper" })
  const known = new WeakMap<PgConnection, PgSilence.Watched>()

  /** A connection that is new to us is watched from now on. */
  const watch = (connection: PgConnection) => {
    if (!known.has(connection)) known.set(connection, silence.watch(connection))
  }
  const ending = yield* FiberSet.make<void>()
  yield* Effect.addFinalizer(() => Effect.timeoutOption(FiberSet.awaitEmpty(ending), endLimit))
  /** What nothing was heard of is closed here, and ended at the server, which may not know. No statement waits for that. */
  const end = (connection: PgConnection) =>
    Effect.suspend(() => {
      known.get(connection)?.giveUp()
      const backend = PgOpening.backendOf(connection)
      return backend === undefined ? Effect.void : FiberSet.run(ending, reaper.expel(backend, Duration.zero))
    })

  const open = yield* PgSiblings.make(of, limit)
  const pool = yield* open("statements", { ...config, multiplex: true, onCondemned: end })

  /** What runs on one connection, which `pinned` is a view of. */
  const adapt = (connection: PgConnection, pinned = connection) => {
    watch(connection)
    const awaited = pool.awaited(connection)
    const statement = <A, E>(work: Effect.Effect<A, E>) => within(awaited(work))
    const stream = <A>(rows: Stream.Stream<A, SqlError>) =>
      Stream.unwrap(Effect.map(Stream.toPull(rows), (pull) => Stream.fromPull(Effect.succeed(statement(pull)))))
    return PgSqlClient.adapt(pinned, { statement, stream })
  }
  return yield* SqlClient.make({
    acquirer: Effect.map(pool.get, (connection) => adapt(connection)),
    borrower: (use) => Effect.scoped(Effect.flatMap(pool.get, (connection) => use(adapt(connection)))),
    transactionAcquirer: Effect.flatMap(pool.get, (connection) =>
      Effect.map(connection.pin, (pinned) => adapt(connection, pinned))
    ),
    ...PgSqlClient.dialect
  })
})
