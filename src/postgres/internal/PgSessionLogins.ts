/**
 * How `PgSessionStore` gives out tokens: to a new session, to a login in one that exists, and to one whose token is replaced.
 *
 * Nothing here lives longer than the call.
 */
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import { randomBytes } from "node:crypto"
import { SessionError, SessionRevoked } from "../../session/SessionError.ts"
import * as SessionId from "../../session/SessionId.ts"
import type { SessionCipher } from "../../session/SessionCipher.ts"
import { principalOf } from "../../session/SessionRecord.ts"
import type { Authentication, Limits, NewSession, Rotation } from "../../session/SessionStore.ts"
import type { TokenHash } from "../../session/SessionToken.ts"
import * as PgSessionRow from "./PgSessionRow.ts"
import type * as PgSessionSql from "./PgSessionSql.ts"

type Statement = (
  sql: string,
  params: ReadonlyArray<unknown>
) => Effect.Effect<ReadonlyArray<PgSessionRow.Row>, SessionError>

/** The store's ways to its database. */
export interface Access {
  readonly statements: ReturnType<typeof PgSessionSql.make>
  readonly cipher: SessionCipher
  readonly read: Statement
  readonly write: Statement
  readonly transaction: <A>(
    work: (connection: PgConnection) => Effect.Effect<A, SqlError>
  ) => Effect.Effect<A, SessionError>
}

/** A hash as the tables hold it. */
export const bytes = (hash: TokenHash): Uint8Array => Buffer.from(hash, "hex")

/** What the next token is derived with. */
export const nonce = () => randomBytes(32).toString("base64url")

const revoked = Effect.fail(new SessionError({ reason: new SessionRevoked() }))

export const make = ({ cipher, read, statements, transaction, write }: Access) => {
  /** Keeps logins and revocations of a principal one after the other, until the transaction is over. Tells the epoch. */
  const lockPrincipal = Effect.fnUntraced(function* (connection: PgConnection, principal: string) {
    const [locked] = yield* connection.queryValues(statements.lockPrincipal, [principal])
    return locked ?? (yield* connection.queryValues(statements.addPrincipal, [principal]))[0]
  })

  const isRevokedSince = ({ epoch }: Limits, row: PgSessionRow.Row | undefined) =>
    epoch !== undefined && Result.getOrElse(PgSessionRow.epoch(row), () => Infinity) > epoch

  const limitsOf = (limits: Limits) => [
    Duration.toMillis(limits.idleTimeout),
    Duration.toMillis(limits.absoluteTimeout),
    Duration.toMillis(limits.renewEvery),
    Math.max(limits.maxPerPrincipal - 1, 0)
  ]

  const create = Effect.fn("PgSessionStore.create")(function* (session: NewSession) {
    const principal = session.principal === null ? null : yield* principalOf(session.principal)
    const actor = session.actor === undefined ? null : yield* principalOf(session.actor)
    const id = SessionId.make()
    const params = [
      id,
      principal,
      cipher.seal(id, JSON.stringify(session.data)),
      session.dataVersion,
      JSON.stringify(session.device),
      ...limitsOf(session),
      bytes(session.token),
      nonce(),
      session.instead === undefined ? null : bytes(session.instead),
      actor
    ]
    const rows = yield* principal === null
      ? write(statements.create, params)
      : transaction(
          Effect.fnUntraced(function* (connection) {
            const locked = yield* lockPrincipal(connection, principal)
            return isRevokedSince(session, locked)
              ? undefined
              : yield* connection.queryValues(statements.create, params)
          })
        )
    if (rows === undefined) return yield* revoked
    return yield* Effect.fromResult(PgSessionRow.login(rows[0], cipher.open))
  })

  /** Why nothing was done with a token. */
  const refusal = (token: TokenHash) =>
    Effect.flatMap(read(statements.refusal, [bytes(token)]), ([row]) => Effect.fail(PgSessionRow.standing(row)))

  const authenticate = Effect.fn("PgSessionStore.authenticate")(function* (authentication: Authentication) {
    const { data, device, next, token } = authentication
    const principal = yield* principalOf(authentication.principal)
    const paramsOf = (id: string) => [
      bytes(token),
      principal,
      data === undefined ? null : cipher.seal(id, JSON.stringify(data.value)),
      data?.version ?? null,
      JSON.stringify(device),
      ...limitsOf(authentication),
      bytes(next),
      nonce()
    ]
    const rows = yield* transaction(
      Effect.fnUntraced(function* (connection) {
        // Both principals, in one order for all, or two logins that take each other's sessions over would wait for ever.
        const [owner] = yield* connection.queryValues(statements.owner, [bytes(token)])
        const before = owner?.[0]
        const names = typeof before === "string" && before !== principal ? [principal, before] : [principal]
        for (const name of names.toSorted()) {
          const locked = yield* lockPrincipal(connection, name)
          if (name === principal && isRevokedSince(authentication, locked)) return undefined
        }
        const [locked] = yield* connection.queryValues(statements.lockSession, [bytes(token)])
        // Where none is locked, none is written.
        return yield* connection.queryValues(statements.authenticate, paramsOf(String(locked?.[0])))
      })
    )
    if (rows === undefined) return yield* revoked
    if (rows[0] === undefined) return yield* refusal(token)
    return yield* Effect.fromResult(PgSessionRow.login(rows[0], cipher.open))
  })

  const rotate = Effect.fn("PgSessionStore.rotate")(function* ({ next, token }: Rotation) {
    const rows = yield* transaction((connection) =>
      Effect.andThen(
        connection.queryValues(statements.lockSession, [bytes(token)]),
        connection.queryValues(statements.rotate, [bytes(token), bytes(next), nonce()])
      )
    )
    if (rows[0] === undefined) return yield* refusal(token)
    return yield* Effect.fromResult(PgSessionRow.record(rows[0], cipher.open))
  })

  return { create, authenticate, rotate, refusal }
}
