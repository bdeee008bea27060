/**
 * Pools of connections to one server, for this package's own statements. A connection that dies without a word takes its like
 * along.
 *
 * The pools live as long as the scopes they are opened in. Nothing here may run SQL that somebody else wrote.
 *
 * **Details**
 *
 * A network that forgets a connection forgets the others of its age. So when a statement has no answer in time, its connection
 * is not used again, and neither is any other to that server, of all pools of the process, that was not heard from since. The
 * next statement opens a new one, instead of finding out about the dead ones in turn. A connection that works and was idle is
 * replaced needlessly then, which costs less.
 *
 * A connection that was not heard from for a second is asked whether it is there before it gets a statement, so that an answer that
 * takes long is a slow one, and not the silence of a dead network.
 */
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import type * as PgPool from "@effect/sql-pg/PgPool"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Pool from "effect/Pool"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import type { State } from "../../connection/ConnectionSource.ts"
import * as Deadlines from "../../lifetime/Deadlines.ts"
import * as SteadyClock from "../../lifetime/internal/SteadyClock.ts"
import * as TimeLimit from "../../lifetime/TimeLimit.ts"
import * as PgDriver from "./PgDriver.ts"
import * as PgOpening from "./PgOpening.ts"
import * as PgOutages from "./PgOutages.ts"

/** One of the pools. */
export interface Connections {
  /** Lends a connection to an effect, which is one statement as far as waiting for its answer goes. */
  readonly use: <A, E, R>(
    work: (connection: PgConnection.PgConnection) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | SqlError, R>
  /** Lends a connection until the scope closes; its statements are {@link Connections.awaited}. */
  readonly get: Effect.Effect<PgConnection.PgConnection, SqlError, Scope.Scope>
  /** Waits for the answer to a statement on a connection of {@link Connections.get}. */
  readonly awaited: (
    connection: PgConnection.PgConnection
  ) => <A, E, R>(statement: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Does not use the connection again. */
  readonly invalidate: (connection: PgConnection.PgConnection) => Effect.Effect<void>
}

/** What opens a pool for the current scope; the log of outages knows it by its name. */
export type Siblings = (
  name: string,
  config: PgPool.Config &
    Pick<PgOutages.Use, "url"> & {
      /** Whether one that was silent for a second is asked before it gets a statement. Default: yes. */
      readonly isAsked?: boolean | undefined
      /** Told of each connection that is given up because nothing was heard on it. */
      readonly onCondemned?: ((connection: PgConnection.PgConnection) => Effect.Effect<void>) | undefined
    }
) => Effect.Effect<Connections, SqlError, Scope.Scope>

interface Known {
  heardAt: number
  readonly state: () => State
  readonly condemn: Effect.Effect<void>
}

/** How many statements travel on one connection, where they do so together. */
const together = 32
/** One that was silent for so long, in milliseconds, is asked before it is used. */
const idle = 1000
/** How long it has to answer, or a third of the limit of statements where that is less. */
const askLimit = Duration.seconds(1)
/** One that was heard from so lately, in milliseconds, is none of the dead. */
const lately = 1000

/** How long a server has after that to confirm that a statement is cancelled, before the operator is told of its silence. */
const wordLimit = Duration.seconds(2)

const gone = Symbol()
const isGone = (worked: unknown): worked is typeof gone => worked === gone

/**
 * Every open connection of this package's pools in the process, by the server: they die together, whatever they are for.
 */
const Servers = Context.Reference<Map<string, Map<PgConnection.PgConnection, Known>>>("holdfast/postgres/PgSiblings", {
  defaultValue: () => new Map()
})

/**
 * Makes pools whose statements are answered within `limit`, or given up with their connection. The log says what the database is
 * `of`.
 */
export const make = Effect.fnUntraced(function* (of: string, limit: Duration.Duration) {
  const clock = yield* Clock.Clock
  const now = () => SteadyClock.millis(clock)
  const run = Effect.runForkWith(yield* Effect.context<never>())
  const scope = yield* Effect.scope
  // A little before the fiber that waits is told, so that what they ask next does not meet the same connection.
  const patience = Duration.times(limit, 0.9)
  const deadlines = yield* Deadlines.make(patience)
  const asking = yield* TimeLimit.make(Duration.min(askLimit, Duration.divideUnsafe(limit, 3)), () => gone)
  const servers = yield* Servers

  const open = Effect.fnUntraced(function* (name: string, config: Parameters<Siblings>[1]) {
    const server = URL.parse(Redacted.value(config.url))?.host ?? ""
    const known: Map<PgConnection.PgConnection, Known> = servers.get(server) ?? new Map()
    servers.set(server, known)
    const condemn = (connection: PgConnection.PgConnection, since: number) => {
      const from = Math.max(since, now() - lately)
      for (const [each, { condemn, heardAt }] of known) if (each === connection || heardAt < from) run(condemn)
    }
    const outage = yield* PgOutages.source({ of, url: config.url, source: `${of}: ${name}` })
    const invalidate = (connection: PgConnection.PgConnection): Effect.Effect<void> =>
      Effect.suspend(() => Pool.invalidate(pool, connection))
    const acquire = Effect.gen(function* () {
      const connection = yield* Effect.tapError(PgOpening.make(config), (error) => outage.failed(PgOutages.why(error)))
      if (config.multiplex === true)
        PgDriver.onPin(
          connection,
          Effect.suspend(() => Pool.reserve(pool, connection))
        )
      known.set(connection, {
        heardAt: now(),
        state: PgDriver.watch(connection),
        condemn: Effect.andThen(invalidate(connection), config.onCondemned?.(connection) ?? Effect.void)
      })
      yield* Effect.addFinalizer(() => Effect.sync(() => known.delete(connection)))
      return connection
    })
    const pool: Pool.Pool<PgConnection.PgConnection, SqlError> = yield* Pool.makeWithTTL({
      acquire,
      min: 0,
      max: config.maxConnections ?? 10,
      concurrency: config.multiplex === true ? together : 1,
      timeToLive: config.idleTimeout ?? Duration.minutes(1),
      timeToLiveStrategy: "usage"
    })

    const silent = outage.failed(`no answer within ${Duration.format(limit)}`)
    const told = (exit: Exit.Exit<unknown, unknown>) => {
      if (Exit.isSuccess(exit)) return outage.worked
      const why = Option.flatMap(Exit.findErrorOption(exit), (error) =>
        Option.fromUndefinedOr(PgOutages.whyStatement(error))
      )
      return Option.match(why, { onNone: () => Effect.void, onSome: outage.failed })
    }

    const awaited: Connections["awaited"] = (connection) => (statement) =>
      Effect.suspend(() => {
        const since = now()
        let isAnswered = false
        const forget = deadlines.add(() => {
          condemn(connection, since)
          // A server that waits for a lock confirms that its statement is cancelled.
          run(
            Effect.forkIn(
              Effect.delay(
                Effect.suspend(() => (isAnswered ? Effect.void : silent)),
                wordLimit
              ),
              scope
            )
          )
        })
        return Effect.onExit(statement, (exit) =>
          Effect.suspend(() => {
            forget()
            const isGivenUp = Exit.hasInterrupts(exit)
            isAnswered = !isGivenUp || config.multiplex !== true
            const is = known.get(connection)
            if (is === undefined) return Effect.void
            if (!isGivenUp) is.heardAt = now()
            // One statement among others cannot be cancelled, so nobody has heard whether the connection is there. What can
            // be was confirmed by now, or took so long that its time is over.
            else if (config.multiplex === true) condemn(connection, since)
            return is.state() === "usable" ? told(exit) : Effect.andThen(is.condemn, told(exit))
          })
        )
      })

    /** Whether a connection is there; undefined where it need not be asked. */
    const ask = (connection: PgConnection.PgConnection): Effect.Effect<boolean> | undefined => {
      const is = known.get(connection)
      if (is === undefined || is.state() === "dead") return Effect.as(invalidate(connection), false)
      const since = now()
      if (config.isAsked === false || since - is.heardAt < idle) return undefined
      return asking(connection.query("select 1", [], false)).pipe(
        Effect.onInterrupt(() => Effect.sync(() => condemn(connection, since))),
        Effect.matchEffect({
          onSuccess: () => Effect.sync(() => ((is.heardAt = now()), true)),
          onFailure: (error) =>
            Effect.as(error === gone ? Effect.sync(() => condemn(connection, since)) : invalidate(connection), false)
        })
      )
    }

    const use = <A, E, R>(
      work: (connection: PgConnection.PgConnection) => Effect.Effect<A, E, R>
    ): Effect.Effect<A, E | SqlError, R> =>
      Effect.flatMap(
        Pool.use(pool, (connection): Effect.Effect<A | typeof gone, E, R> => {
          const asked = ask(connection)
          const worked = awaited(connection)(work(connection))
          if (asked === undefined) return worked
          return Effect.flatMap(asked, (isThere): Effect.Effect<A | typeof gone, E, R> =>
            isThere ? worked : Effect.succeed(gone)
          )
        }),
        (worked) => (isGone(worked) ? use(work) : Effect.succeed(worked))
      )

    const get: Connections["get"] = Effect.flatMap(Pool.get(pool), (connection) => {
      const asked = ask(connection)
      return asked === undefined
        ? Effect.succeed(connection)
        : Effect.flatMap(asked, (isThere) => (isThere ? Effect.succeed(connection) : get))
    })

    return { use, get, awaited, invalidate } satisfies Connections
  })
  return open satisfies Siblings as Siblings
})
