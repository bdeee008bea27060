/**
 * What an instance has at a MySQL or MariaDB that queries run on: noted in the journal before it is used, and ended from elsewhere
 * when the instance is gone.
 *
 * It lives as long as its scope, and holds a connection only while it ends something.
 *
 * **Details**
 *
 * Give {@link MysqlQueryBackends.register} to the pool as `onOpen`, and the whole to the engine as `elsewhere`. A connection is known
 * by the server, its number there and the address that it was opened from: a server that was started again gives the number to
 * another one. It takes no right besides: a user may see and `KILL` that user's own connections.
 *
 * **Gotchas**
 *
 * Where a name leads to several servers, or a server comes back under another host name, nobody can say that a connection is gone:
 * it counts as there until it is reached on its own server.
 *
 * Install `mysql2` beside Holdfast.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as QueryBackends from "../query/internal/QueryBackends.ts"
import type { Elsewhere } from "../query/QueryDriver.ts"
import * as MysqlTarget from "./internal/MysqlTarget.ts"
import * as MysqlWire from "./internal/MysqlWire.ts"

/** Which server, and what the registry calls it. */
export interface Options {
  /** As for `MysqlConnectionSource`. */
  readonly url: Redacted.Redacted<string>
  /** The name of the engine. */
  readonly engine: string
  /** Takes the place of the password in the URL. */
  readonly password?: Redacted.Redacted<string> | undefined
}

export interface MysqlQueryBackends extends Elsewhere {
  /** For `onOpen` of the pool. It fails for an instance that others take for gone. */
  readonly register: Effect.Effect<void, unknown, SqlClient.SqlClient>
}

/** Which server answers. */
const server = "concat(@@hostname, ':', @@port, ' ', @@server_id)"

const whoAmI = `
  select cast(p.id as char) as number, p.host as origin, ${server} as server
  from information_schema.processlist p where p.id = connection_id()`

const Backend = Schema.Struct({ number: Schema.NumberFromString, origin: Schema.String, server: Schema.String })
const decodeWho = Schema.decodeUnknownEffect(Schema.Tuple([Backend]))
const Handle = Schema.fromJsonString(Backend)
const decodeHandle = Schema.decodeUnknownEffect(Handle)
const encodeHandle = Schema.encodeEffect(Handle)
const decodeServer = Schema.decodeUnknownEffect(Schema.Tuple([Schema.Tuple([Schema.String])]))

/** How long the server has to answer. */
const patience = Duration.seconds(3)

/** Makes it, over the `QueryJournal` in context. Without a shared one it notes nothing. */
export const make = Effect.fnUntraced(function* ({ engine, password, url }: Options) {
  const target = MysqlTarget.of(url)
  const note = yield* QueryBackends.noting(engine)

  const register = note(
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [backend] = yield* Effect.flatMap(sql.unsafe(whoAmI).unprepared, decodeWho)
      return yield* encodeHandle(backend)
    })
  )

  const end = (handles: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const backends = yield* Effect.forEach(handles, (handle) => decodeHandle(handle))
      const wire = yield* MysqlWire.open(target, password ?? target.password, patience)
      const [[here]] = yield* Effect.flatMap(wire.ask(`select ${server}`), ({ rows }) => decodeServer(rows))
      const left = yield* Effect.filter(backends, ({ number, origin, server }) =>
        server === here
          ? Effect.map(
              wire.ask("select 1 from information_schema.processlist where id = ? and host = ?", [
                BigInt(number),
                origin
              ]),
              ({ rows }) => rows.length > 0
            )
          : Effect.succeed(true)
      )
      for (const { number, server } of left) {
        // It may end by itself at this moment (ER_NO_SUCH_THREAD).
        if (server === here) yield* Effect.ignore(wire.ask(`kill connection ${number}`))
      }
      return left.length
    }).pipe(Effect.scoped, Effect.timeout(patience))

  return { register, end } satisfies MysqlQueryBackends as MysqlQueryBackends
})
