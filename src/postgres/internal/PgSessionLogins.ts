/**
 * How `PgSessionStore` gives out tokens: to a new session, to a login in one that exists, and to one whose token is replaced.
 *
 * It works until the current scope closes.
 *
 * **Details**
 *
 * Logins of concurrent requests travel together, as loads and changes do: see `SessionBatches`. A batch waits for nobody: a principal
 * that is locked just then logs in on its own, after whom it waits for.
 */
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import { randomBytes } from "node:crypto"
import type * as TimeLimit from "../../lifetime/TimeLimit.ts"
import * as SessionBatches from "../../session/internal/SessionBatches.ts"
import { SessionError, SessionRevoked } from "../../session/SessionError.ts"
import * as SessionId from "../../session/SessionId.ts"
import type { SessionCipher } from "../../session/SessionCipher.ts"
import { principalOf } from "../../session/SessionRecord.ts"
import type { Authentication, Limits, Login as LoggedIn, NewSession, Rotation } from "../../session/SessionStore.ts"
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
  /** How many batches of logins may be under way. */
  readonly concurrency: number
  /** For a batch as a whole. */
  readonly within: TimeLimit.TimeLimit<SessionError>
}

/** A hash as the tables hold it. */
export const bytes = (hash: TokenHash): Uint8Array => Buffer.from(hash, "hex")

/** What the next token is derived with. */
export const nonce = () => randomBytes(32).toString("base64url")

const isTaken = ({ reason }: SessionError) => reason._tag === "SessionTokenTaken"

const revoked = Effect.fail(new SessionError({ reason: new SessionRevoked() }))

/** Characters of data in one statement, each login counting as so many more. */
const largest = 262_144
const overhead = 2048

/** A session to be, with what was checked and sealed of it. */
interface Login {
  readonly id: SessionId.SessionId
  readonly session: NewSession
  readonly principal: string | null
  readonly actor: string | null
  readonly data: string
}

export const make = Effect.fnUntraced(function* ({
  cipher,
  concurrency,
  read,
  statements,
  transaction,
  within,
  write
}: Access) {
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

  const valuesOf = ({ actor, data, id, principal, session }: Login) => ({
    before: [id, principal, data, session.dataVersion, JSON.stringify(session.device), ...limitsOf(session)],
    after: [nonce(), actor]
  })

  /** Creates one session; waits for whom else its principal is locked by. */
  const createAlone = Effect.fnUntraced(function* (login: Login) {
    const { principal, session } = login
    const { after, before } = valuesOf(login)
    const [made, actor] = after
    const instead = session.instead === undefined ? null : bytes(session.instead)
    const params = [...before, bytes(session.token), made, instead, actor]
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

  /**
   * Creates sessions of different principals in one statement: a row for each in its place. None where the principal is locked by
   * somebody else at this moment, or has revoked all sessions since.
   */
  const createFree = (logins: ReadonlyArray<Login>) =>
    transaction(
      Effect.fnUntraced(function* (connection) {
        const names = logins.flatMap(({ principal }) => principal ?? []).toSorted()
        const epochs = new Map(
          names.length === 0
            ? []
            : (yield* connection.queryValues(statements.lockFree, [names])).map((row) => [row[0], row.slice(1)])
        )
        const free = Array.from(logins.entries()).filter(([, { principal, session }]) => {
          if (principal === null) return true
          const locked = epochs.get(principal)
          return locked !== undefined && !isRevokedSince(session, locked)
        })
        if (free.length === 0) return []
        const rows = free.map(([, login]) => {
          const { after, before } = valuesOf(login)
          return [...before, login.session.token, ...after].map((value) => value ?? "")
        })
        const columns = rows[0]?.map((_, column) => rows.map((row) => row[column])) ?? []
        const made = PgSessionRow.inPlace(yield* connection.queryValues(statements.createMany, columns))
        const placed: Array<PgSessionRow.Row | undefined> = []
        for (const [index, [place]] of free.entries()) placed[place] = made[index]
        return placed
      })
    )

  // Logins of one principal make room for each other, one after the other, and a token that takes another's place may have to wait.
  const batched = yield* SessionBatches.make<Login, LoggedIn>({
    concurrency,
    largest,
    sizeOf: ({ data }) => data.length + overhead,
    within,
    travel: (batch) => {
      const logins = Array.from(batch.keys())
      const seen = new Set<string>()
      const apart = logins.filter(({ principal, session }) => {
        const isFirst = principal === null || !seen.has(principal)
        if (principal !== null) seen.add(principal)
        return isFirst && session.instead === undefined
      })
      const alone = new Set(logins)
      // One that cannot be stored fails all of a statement, and on its own tells why.
      const made =
        apart.length < 2 ? Effect.succeed([]) : Effect.catchIf(createFree(apart), isTaken, () => Effect.succeed([]))
      return Effect.map(made, (rows) => {
        for (const [index, login] of apart.entries()) {
          const row = rows[index]
          const waiting = batch.get(login)
          if (row === undefined || waiting === undefined) continue
          alone.delete(login)
          Deferred.doneUnsafe(
            waiting,
            Result.match(PgSessionRow.login(row, cipher.open), { onFailure: Exit.fail, onSuccess: Exit.succeed })
          )
        }
        return SessionBatches.answerEach(batch, Array.from(alone), createAlone)
      })
    }
  })

  const create = Effect.fn("PgSessionStore.create")(function* (session: NewSession) {
    const principal = session.principal === null ? null : yield* principalOf(session.principal)
    const actor = session.actor === undefined ? null : yield* principalOf(session.actor)
    const id = SessionId.make()
    return yield* batched({ id, session, principal, actor, data: cipher.seal(id, JSON.stringify(session.data)) })
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
})
