/**
 * Notices connections that died without a word while somebody waits for an answer on them.
 *
 * A watch lives as long as its source or client. Where nothing arrived on such a connection for five seconds, the server is
 * asked about its backend from another, new connection. When the server has no such backend any more, or when the backend is
 * seen to be idle twice while we wait for it, the connection is closed on our side, what waits on it fails, and the backend is
 * ended. A backend that runs what we wait for is left alone, however long that takes, and so is everything where the server
 * cannot be asked.
 *
 * **Details**
 *
 * A connection that is not read at the moment, because nobody takes its rows, is not silent. Dead within 10 seconds of the
 * last word: five of silence, a second to look, two between the looks, and what the looks take.
 */
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { hasProperty } from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { Duplex } from "node:stream"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as SteadyClock from "../../lifetime/internal/SteadyClock.ts"
import * as PgDriver from "./PgDriver.ts"
import * as PgOpening from "./PgOpening.ts"
import * as PgWire from "./PgWire.ts"

export interface PgSilence {
  /** Watches a connection, which `PgOpening` opened, until its socket is closed. */
  readonly watch: (connection: PgConnection) => Watched
}

/** A connection that is watched. */
export interface Watched {
  /** When anything arrived on it, or the server was last seen to run what it is for. On the steady clock. */
  readonly heardAt: () => number
  /** Whether somebody waits for an answer. */
  readonly isAwaited: () => boolean
  /** Closes it, and all that wait on it fail. */
  readonly giveUp: () => void
  readonly onClose: (listener: () => void) => void
}

interface Entry extends Watched {
  readonly backend: PgOpening.Backend
  readonly socket: Duplex
  heard: number
  /** Since when somebody waits for an answer. */
  awaitedAt: number | undefined
  /** When it was seen idle, and since when it was so by the server's clock. */
  idle: { readonly seenAt: number; readonly changedAt: string } | undefined
}

const silence = Duration.toMillis(Duration.seconds(5))
const betweenLooks = Duration.toMillis(Duration.seconds(2))

/** Where the server cannot be asked in time, it is asked again. */
const lookLimit = Duration.seconds(3)

const Rows = Schema.Array(Schema.Tuple([Schema.Int, Schema.NullOr(Schema.String), Schema.NullOr(Schema.String)]))
const decodeRows = Schema.decodeUnknownEffect(Rows)

/** Nothing is found by the search path, which may be somebody else's choice. */
const backends = `pg_catalog.pg_stat_activity a
    on a.pid operator(pg_catalog.=) t.pid and a.backend_start operator(pg_catalog.=) t.start`

const look = `select a.pid, a.state, a.state_change::pg_catalog.text
  from rows from (pg_catalog.unnest($1::pg_catalog.int4[]), pg_catalog.unnest($2::pg_catalog.timestamptz[])) as t(pid, start)
  join ${backends}`

const end = `select pg_catalog.pg_terminate_backend(a.pid)
  from rows from (pg_catalog.unnest($1::pg_catalog.int4[]), pg_catalog.unnest($2::pg_catalog.timestamptz[]),
    pg_catalog.unnest($3::pg_catalog.timestamptz[])) as t(pid, start, changed)
  join ${backends} and a.state_change operator(pg_catalog.=) t.changed`

/** States of a backend that does not run anything. Where the server does not track them, nobody is judged. */
const idleStates: ReadonlySet<string | null> = new Set(["idle", "idle in transaction", "idle in transaction (aborted)"])

const nobodyKnows = new Error(
  "The connection was lost without a word: the server does not know it any more, or waits for us. Look at what the statement wrote before you try again."
)

/** Makes a watch that ends with the current scope. `config` is that of the connections it watches. */
export const make = Effect.fnUntraced(function* (config: PgDriver.Config, connect?: PgDriver.Connect) {
  const clock = yield* Clock.Clock
  const now = () => SteadyClock.millis(clock)
  const entries = new Map<PgConnection, Entry>()

  const watch = (connection: PgConnection): Watched => {
    const known = entries.get(connection)
    if (known !== undefined) return known
    const socket = PgWire.socketOf(connection)
    const backend = PgOpening.backendOf(connection)
    // Where the driver does not show its socket, nothing can be heard.
    if (socket === undefined || backend === undefined) {
      return {
        heardAt: () => Infinity,
        isAwaited: () => false,
        giveUp: () => {},
        onClose: () => {}
      }
    }
    const isAwaited = () =>
      (hasProperty(connection, "consumer") && connection.consumer !== undefined) || PgWire.isAwaited(connection)
    const entry: Entry = {
      backend,
      socket,
      heard: now(),
      awaitedAt: undefined,
      idle: undefined,
      heardAt: () => entry.heard,
      isAwaited,
      giveUp: () => socket.destroy(nobodyKnows),
      onClose: (listener) => socket.once("close", listener)
    }
    entries.set(connection, entry)
    socket.on("data", () => {
      entry.heard = now()
    })
    // The driver listens for as long as it uses the socket, which may be closed for longer on our side than on the other.
    socket.on("error", () => {})
    socket.once("close", () => entries.delete(connection))
    return entry
  }

  const isSilent = (entry: Entry, at: number) => {
    if (!entry.isAwaited() || entry.socket.isPaused()) {
      entry.awaitedAt = undefined
      return false
    }
    entry.awaitedAt ??= at
    if (entry.idle !== undefined && entry.heard > entry.idle.seenAt) entry.idle = undefined
    return entry.idle === undefined
      ? at - Math.max(entry.heard, entry.awaitedAt) >= silence
      : at - entry.idle.seenAt >= betweenLooks
  }

  const judge = Effect.fnUntraced(function* (silent: ReadonlyArray<Entry>, asked: number) {
    const ask = yield* PgDriver.brief(config, connect)
    const found = yield* ask(look, [
      silent.map(({ backend }) => backend.pid),
      silent.map(({ backend }) => backend.startedAt)
    ])
    const backends = new Map(
      (yield* decodeRows(found)).map(([pid, state, changedAt]) => [pid, { state, changedAt: changedAt ?? "" }])
    )
    const dead: Array<Entry> = []
    for (const entry of silent) {
      // It spoke meanwhile.
      if (entry.heard >= asked || !entry.isAwaited()) continue
      const backend = backends.get(entry.backend.pid)
      if (backend === undefined) dead.push(entry)
      else if (!idleStates.has(backend.state)) {
        entry.idle = undefined
        // The server says that it runs: it was heard of.
        entry.heard = now()
      } else if (entry.idle?.changedAt === backend.changedAt) dead.push(entry)
      else entry.idle = { seenAt: now(), changedAt: backend.changedAt }
    }
    if (dead.length === 0) return
    for (const entry of dead) entry.giveUp()
    yield* LogEvent.warning(
      { event: "connection.silent", count: dead.length },
      `Connections that died without a word were closed: backends ${dead.map(({ backend }) => backend.pid).join(", ")}`
    )
    const left = dead.filter(({ idle }) => idle !== undefined)
    if (left.length === 0) return
    yield* ask(end, [
      left.map(({ backend }) => backend.pid),
      left.map(({ backend }) => backend.startedAt),
      left.map(({ idle }) => idle?.changedAt ?? "")
    ])
  }, Effect.scoped)

  const round = Effect.suspend(() => {
    const at = now()
    const silent = Array.from(entries.values()).filter((entry) => isSilent(entry, at))
    return silent.length === 0 ? Effect.void : Effect.timeout(judge(silent, at), lookLimit)
  }).pipe(
    Effect.catchCause((cause) =>
      LogEvent.debug(
        { event: "connection.unwatched" },
        "Nobody can be asked about silent connections; trying again",
        cause
      )
    )
  )
  yield* Effect.forkScoped(Effect.repeat(round, Schedule.spaced("1 second")))

  return { watch } satisfies PgSilence as PgSilence
})
