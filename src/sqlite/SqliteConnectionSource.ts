/**
 * Opens connections to one SQLite file for a `ConnectionPool`: each is a process of its own.
 *
 * A source lives as long as its layer; every connection lives in the scope that it was opened in. SQLite runs in the thread that
 * calls it, so in this process a long statement would hold up everything, and nobody could end it. In a process of its own it
 * can be killed at any moment; SQLite's journal then undoes what it had begun.
 *
 * **Details**
 *
 * Starting a process takes some 100 milliseconds and 60 MB; the pool keeps those that are open. Needs Node.js 24.10 or newer.
 * Nothing but the file can be reached by a statement, see `SqliteQueryDriver`.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import type { SqlError } from "effect/sql/SqlError"
import { accessSync, constants } from "node:fs"
import * as Path from "node:path"
import { ConnectionError, InvalidConfig, ResetFailed, Unavailable } from "../connection/ConnectionError.ts"
import { ConnectionSource, type OpenConnection } from "../connection/ConnectionSource.ts"
import * as SqliteSqlClient from "./internal/SqliteSqlClient.ts"
import * as SqliteWire from "./internal/SqliteWire.ts"

/** Which file. */
export interface Options {
  /**
   * `sqlite:PATH`, relative to the working directory or absolute; `?mode=ro` to read only, `?mode=rwc` to have a file made that is
   * not there. Default: read and write one that is there.
   */
  readonly url: string
}

/** What a URL says, or what is wrong with it. */
const parse = (url: string): SqliteWire.Target | string => {
  const found = /^sqlite:(?:\/\/(?=\/))?([^?#]*)(?:\?mode=(ro|rw|rwc))?$/.exec(url)
  if (found === null) return "must be like sqlite:data/reports.db or sqlite:/data/reports.db?mode=ro"
  const [, given = "", mode = "rw"] = found
  let path: string
  try {
    path = decodeURIComponent(given)
  } catch {
    return "must have its path percent-encoded"
  }
  return path === "" || path === ":memory:"
    ? "must name a file: each connection would have a database in memory of its own"
    : { path: Path.resolve(path), mode: mode as SqliteWire.Target["mode"] }
}

/** What is wrong with a URL, if anything. */
export const problemOf = (url: string): string | undefined => {
  const parsed = parse(url)
  return typeof parsed === "string" ? parsed : undefined
}

/** Makes a source. Fails with `InvalidConfig` where the URL makes no sense. */
export const make = Effect.fnUntraced(function* ({ url }: Options) {
  const target = parse(url)
  if (typeof target === "string") {
    return yield* new ConnectionError({ reason: new InvalidConfig({ field: "url", problem: target }) })
  }
  const { mode, path } = target
  const name = `sqlite ${Path.basename(path)}`
  const reactivity = yield* Reactivity.Reactivity
  const unavailable = (cause: unknown) => new ConnectionError({ reason: new Unavailable({ source: name, cause }) })
  const fromSql = ({ reason }: SqlError) => unavailable(reason.cause)
  const isThere = Effect.try({
    try: () => {
      if (mode !== "rwc") accessSync(path, mode === "ro" ? constants.R_OK : constants.R_OK | constants.W_OK)
    },
    catch: unavailable
  })

  const open = Effect.gen(function* () {
    yield* isThere
    const wire = yield* Effect.mapError(SqliteWire.start(target), fromSql)
    const ping = Effect.mapError(Effect.asVoid(wire.tell({ do: "ping" })), fromSql)
    yield* ping
    return {
      id: String(wire.pid),
      lend: () =>
        Effect.succeed({
          sql: Effect.provideService(SqliteSqlClient.make(wire), Reactivity.Reactivity, reactivity),
          services: Context.empty()
        }),
      check: Effect.andThen(isThere, ping),
      reset: Effect.mapError(
        Effect.asVoid(wire.tell({ do: "reset" })),
        ({ reason }) => new ConnectionError({ reason: new ResetFailed({ source: name, cause: reason.cause }) })
      ),
      state: () => (wire.isClosed() ? "dead" : "usable"),
      // A process of this machine's that is gone is heard of at once.
      heardAt: () => (wire.isClosed() ? wire.heardAt() : Number.POSITIVE_INFINITY),
      expel: () => wire.kill
    } satisfies OpenConnection
  })
  return ConnectionSource.of({ name, open })
})

/** A source of connections to a SQLite file. */
export const layer = (options: Options): Layer.Layer<ConnectionSource, ConnectionError> =>
  Layer.effect(ConnectionSource, make(options)).pipe(Layer.provide(Reactivity.layer))
