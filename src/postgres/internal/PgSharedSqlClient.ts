/**
 * A `SqlClient` for short statements, many of which travel on each of a few PostgreSQL connections.
 *
 * The connections live as long as the scope the client was made in and are opened when they are first needed. A transaction
 * or a stream has one of them to itself until it is over.
 *
 * **Details**
 *
 * A statement that gets no answer within the limit fails, and its connection is not used again: the network is gone. One
 * whose caller is interrupted goes on at the server, because it cannot be cancelled alone.
 *
 * A connection that was not heard from for a second is asked whether it is alive before it gets a statement. Where no answer
 * comes, it is closed with all that were not heard from since. One that dies while statements run on it is noticed by
 * `PgSilence`.
 */
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import * as PgPool from "@effect/sql-pg/PgPool"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { SqlError, StatementTimeoutError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import * as SteadyClock from "../../lifetime/internal/SteadyClock.ts"
import * as TimeLimit from "../../lifetime/TimeLimit.ts"
import * as PgReaper from "./PgReaper.ts"
import * as PgSilence from "./PgSilence.ts"
import * as PgSqlClient from "./PgSqlClient.ts"

const late = new SqlError({
  reason: new StatementTimeoutError({
    cause: new Error("No answer from the server"),
    message: "The server did not answer in time. Whether the statement took effect is not known.",
    operation: "query"
  })
})

const checkAfter = Duration.toMillis(Duration.seconds(1))
const checkLimit = Duration.seconds(2)

const startedAt = "select backend_start::text from pg_stat_activity where pid = pg_backend_pid()"

/** Makes the client; no statement waits for longer than `limit`. */
export const make = Effect.fnUntraced(function* (config: PgPool.Config, limit: Duration.Duration) {
  const clock = yield* Clock.Clock
  const pool = yield* PgPool.make({ ...config, multiplex: true })
  const silence = yield* PgSilence.make({ ...config, applicationName: "holdfast-watch" })
  const reaper = yield* PgReaper.make({ ...config, applicationName: "holdfast-reaper" })
  const within = yield* TimeLimit.make(limit, () => late)
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const known = new Map<PgConnection, PgSilence.Watched>()

  /** A connection that is new to us is watched from now on. */
  const watchedOf = (connection: PgConnection) => {
    const watched = known.get(connection)
    if (watched !== undefined) return watched
    const added = silence.watch(connection)
    known.set(connection, added)
    added.onClose(() => known.delete(connection))
    runFork(
      Effect.ignore(
        Effect.map(connection.queryValues(startedAt, [], false), ([row]) => added.started(String(row?.[0] ?? "")))
      )
    )
    return added
  }

  /** What was not heard from since one was asked in vain is closed, and ended at the server, which may not know. */
  const condemn = (since: number) => {
    for (const [{ processId: pid }, watched] of known) {
      if (watched.heardAt() >= since) continue
      watched.giveUp()
      const startedAt = watched.startedAt()
      if (startedAt !== "") runFork(reaper.expel({ pid, startedAt }, Duration.zero))
    }
  }
  /** Whether the other side is there, as far as can be told. Who is told that it is not has had the connection closed. */
  const isAlive = (connection: PgConnection): Effect.Effect<boolean> =>
    Effect.suspend(() => {
      const asked = SteadyClock.millis(clock)
      const watched = watchedOf(connection)
      if (watched.isAwaited() || asked - watched.heardAt() < checkAfter) return Effect.succeed(true)
      return Effect.timeoutOption(Effect.exit(connection.query("SELECT 1", [], false)), checkLimit).pipe(
        Effect.flatMap((answer) => {
          const isThere = Option.isSome(answer) && Exit.isSuccess(answer.value)
          if (!isThere) condemn(asked)
          return isThere ? Effect.succeed(true) : Effect.as(pool.invalidate(connection), false)
        })
      )
    })

  const take = <R>(from: Effect.Effect<PgConnection, SqlError, R | Scope.Scope>) =>
    Effect.gen(function* () {
      const outer = yield* Effect.scope
      for (;;) {
        const scope = yield* Scope.fork(outer)
        const connection = yield* Scope.provide(from, scope)
        if (yield* isAlive(connection)) return connection
        yield* Scope.close(scope, Exit.void)
      }
    })
  const use = <A, E, R>(
    work: (connection: PgConnection) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | SqlError, R> =>
    Effect.flatMap(
      pool.use((connection) =>
        Effect.flatMap(isAlive(connection), (isThere) =>
          isThere ? Effect.asSome(work(connection)) : Effect.succeedNone
        )
      ),
      Option.match({ onNone: () => use(work), onSome: Effect.succeed })
    )

  const adapt = (connection: PgConnection) => {
    const statement = <A, E>(work: Effect.Effect<A, E>) =>
      Effect.tapError(within(work), (error) => (error === late ? pool.invalidate(connection) : Effect.void))
    const stream = <A>(rows: Stream.Stream<A, SqlError>) =>
      Stream.unwrap(Effect.map(Stream.toPull(rows), (pull) => Stream.fromPull(Effect.succeed(statement(pull)))))
    return PgSqlClient.adapt(connection, { statement, stream })
  }
  return yield* SqlClient.make({
    acquirer: Effect.map(take(pool.get), adapt),
    borrower: (work) => use((connection) => work(adapt(connection))),
    transactionAcquirer: Effect.map(
      Effect.flatMap(take(pool.get), ({ pin }) => pin),
      adapt
    ),
    ...PgSqlClient.dialect
  })
})
