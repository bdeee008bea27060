/**
 * Opens a connection and makes it ready to be lent: with what the app wants done on each new one.
 */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as TimeLimit from "../../lifetime/TimeLimit.ts"
import { ConnectionError, Unavailable } from "../ConnectionError.ts"
import type { Limits } from "./ConnectionPoolOptions.ts"
import type { ConnectionSource, OpenConnection } from "../ConnectionSource.ts"

/** Nobody holds it yet: where it has to go, it is closed. */
const unrecalled = { kill: Effect.void, reason: () => undefined }

/** Makes what opens them. */
export const make = Effect.fnUntraced(function* (
  source: ConnectionSource["Service"],
  { acquireTimeout, onOpen }: Limits
) {
  if (onOpen === undefined) return source.open
  const failed = (cause: unknown) => new ConnectionError({ reason: new Unavailable({ source: source.name, cause }) })
  const timely = yield* TimeLimit.make(acquireTimeout, (limit) => new Error(`onOpen took longer than ${limit}`))
  const prepare = ({ lend }: OpenConnection) =>
    Effect.flatMap(lend(unrecalled), ({ sql }) =>
      Effect.flatMap(sql, (client) => Effect.provideService(onOpen, SqlClient.SqlClient, client))
    ).pipe(Effect.scoped, timely, Effect.mapError(failed))
  return Effect.tap(source.open, prepare)
})
