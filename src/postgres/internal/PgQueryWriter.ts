/**
 * Writes the queries of one instance: what is there to be written travels together, one statement at a time.
 *
 * It lives as long as its scope. What is not written by then is given up.
 *
 * **Details**
 *
 * A statement whose answer was lost is sent again, and what is found to be written already was written by it. A submission that
 * nobody waits for any more is taken back, also where it is not known whether it was written. A change is tried until it is
 * written, or until its incarnation is over.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Schema from "effect/Schema"
import { type SqlError, isSqlError } from "effect/sql/SqlError"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import type { QueryId } from "../../query/QueryId.ts"
import type { Claim } from "../../query/QueryJournal.ts"
import type { PgQuerySql } from "./PgQuerySql.ts"
import * as PgQueryRow from "./PgQueryRow.ts"

/** What became of a submission. */
export type Inserted = "in" | "known" | "over" | "waitingOfPrincipal" | "keysOfPrincipal"

interface Insert {
  readonly row: PgQueryRow.InsertOf
  readonly done: Deferred.Deferred<Inserted>
  isSent: boolean
}

interface Change {
  readonly claim: Claim
  row: PgQueryRow.ChangeOf
  readonly done: Deferred.Deferred<boolean>
}

interface Batch {
  readonly incarnation: string
  readonly inserts: ReadonlyMap<string, Insert>
  readonly changes: ReadonlyMap<string, Change>
  tries: number
}

/** What is needed to write. */
export interface Options {
  readonly statements: PgQuerySql
  readonly ask: (sql: string, params: ReadonlyArray<unknown>) => Effect.Effect<ReadonlyArray<PgQueryRow.Row>, SqlError>
  /** Whether others are to be told of changes. */
  readonly isHeard: () => boolean
}

/** A statement takes so many, and so many characters of JSON, one at least. */
const maxCount = 150
const maxLength = 4 * 1024 * 1024

/** After a failure. */
const again = "100 millis"

const decodeAnswer = Schema.decodeUnknownEffect(Schema.Array(Schema.Tuple([Schema.String, Schema.String])))
const decodeWritten = Schema.decodeUnknownEffect(
  Schema.Array(Schema.Tuple([Schema.String, Schema.Int, Schema.String, Schema.Boolean]))
)

/** Takes what fits into one statement out of a map. */
const taken = <A extends { readonly row: object }>(from: Map<string, A>, room: { count: number; length: number }) => {
  const some = new Map<string, A>()
  for (const [id, each] of from) {
    const length = JSON.stringify(each.row).length
    if (room.count === 0 || (length > room.length && room.count < maxCount)) break
    room.count--
    room.length -= length
    from.delete(id)
    some.set(id, each)
  }
  return some
}

const rowsOf = (some: ReadonlyMap<string, { readonly row: object }>) =>
  JSON.stringify(Array.from(some.values(), ({ row }) => row))

/** Begins to write. */
export const make = Effect.fnUntraced(function* ({ ask, isHeard, statements }: Options) {
  const inserts = new Map<string, Insert>()
  const changes = new Map<string, Change>()
  const withdrawn = new Set<string>()
  const work = Latch.makeUnsafe(false)
  let incarnation: string | undefined
  let batch: Batch | undefined

  const settleInsert = ({ done }: Insert, came: Inserted) => Deferred.doneUnsafe(done, Exit.succeed(came))
  const settleChange = ({ done }: Change, isOurs: boolean) => Deferred.doneUnsafe(done, Exit.succeed(isOurs))

  /** An earlier try may have written it: what says the same was ours. */
  const recognise = (id: string, state: string, attempt: number, { changes, inserts }: Batch, found: Set<string>) => {
    const change = changes.get(id)
    if (change !== undefined && change.row.state === state && change.claim.attempt === attempt)
      found.add(`changed ${id}`)
    if (inserts.has(id)) found.add(`in ${id}`)
  }

  const send = Effect.fnUntraced(function* (sent: Batch) {
    const tries = sent.tries++
    for (const insert of sent.inserts.values()) insert.isSent = true
    const { changes, incarnation, inserts } = sent
    const params = [rowsOf(inserts), rowsOf(changes), incarnation, isHeard()]
    const answer = yield* Effect.orDie(decodeAnswer(yield* ask(statements.write, params)))
    const found = new Set(answer.map(([what, id]) => `${what} ${id}`))
    if (tries > 0) {
      const ids = JSON.stringify([...inserts.keys(), ...changes.keys()])
      const written = yield* Effect.orDie(decodeWritten(yield* ask(statements.written, [ids, incarnation])))
      for (const [id, attempt, state] of written) recognise(id, state, attempt, sent, found)
    }
    const isThere = found.has(`me ${incarnation}`)
    for (const [id, insert] of inserts) {
      const refused = (["waitingOfPrincipal", "keysOfPrincipal"] as const).find((why) => found.has(`${why} ${id}`))
      settleInsert(insert, found.has(`in ${id}`) ? "in" : (refused ?? (isThere ? "known" : "over")))
    }
    for (const [id, change] of changes) settleChange(change, found.has(`changed ${id}`))
  })

  /** One by one: what the server refuses must not keep the others from being written. */
  const sendEach = ({ changes, incarnation, inserts }: Batch) =>
    Effect.forEach(
      [
        ...Array.from(inserts, ([id, insert]): Batch => ({
          incarnation,
          inserts: new Map([[id, insert]]),
          changes: new Map(),
          tries: 0
        })),
        ...Array.from(changes, ([id, change]): Batch => ({
          incarnation,
          inserts: new Map(),
          changes: new Map([[id, change]]),
          tries: 0
        }))
      ],
      (one) =>
        Effect.catchIf(
          send(one),
          (error) => isSqlError(error) && PgQueryRow.isRefusal(error),
          (error) =>
            Effect.andThen(
              LogEvent.error({ event: "records.lost" }, "A record of a query cannot be written", error),
              Effect.sync(() => {
                for (const insert of one.inserts.values()) settleInsert(insert, "over")
                for (const change of one.changes.values()) settleChange(change, false)
              })
            )
        ),
      { discard: true }
    )

  const next = (): Batch | undefined => {
    if (incarnation === undefined) return undefined
    const room = { count: maxCount, length: maxLength }
    const some = { incarnation, inserts: taken(inserts, room), changes: taken(changes, room), tries: 0 }
    if (inserts.size + changes.size + withdrawn.size === 0) work.closeUnsafe()
    return some
  }

  const flush = Effect.gen(function* () {
    yield* work.await
    batch ??= next()
    const sending = batch
    if (sending === undefined) return void work.closeUnsafe()
    if (sending.inserts.size + sending.changes.size > 0) {
      yield* Effect.catchIf(
        send(sending),
        (error) => isSqlError(error) && PgQueryRow.isRefusal(error),
        () => sendEach(sending)
      )
    }
    batch = undefined
    if (withdrawn.size === 0) return
    const ids = Array.from(withdrawn)
    yield* ask(statements.withdraw, [JSON.stringify(ids), sending.incarnation])
    for (const id of ids) withdrawn.delete(id)
  })
  yield* Effect.forkScoped(
    Effect.forever(
      Effect.catchCause(flush, (cause) =>
        Effect.andThen(
          LogEvent.debug({ event: "records.delayed" }, "Records of queries cannot be written; trying again", cause),
          Effect.sleep(again)
        )
      )
    )
  )

  return {
    /** From now on it writes as this incarnation; what was to be written as another one is over. */
    become: (next: string | undefined): void => {
      const before = incarnation
      incarnation = next
      if (before !== undefined) {
        for (const insert of inserts.values()) settleInsert(insert, "over")
        for (const change of changes.values()) settleChange(change, false)
        for (const insert of batch?.inserts.values() ?? []) settleInsert(insert, "over")
        for (const change of batch?.changes.values() ?? []) settleChange(change, false)
        inserts.clear()
        changes.clear()
        withdrawn.clear()
        batch = undefined
      }
      work.openUnsafe()
    },
    /** Takes a query in; `none` is what it comes to where there is no incarnation. */
    insert: (row: PgQueryRow.InsertOf): Effect.Effect<Inserted> =>
      Effect.suspend(() => {
        if (incarnation === undefined) return Effect.succeed("over")
        const insert: Insert = { row, done: Deferred.makeUnsafe(), isSent: false }
        inserts.set(row.id, insert)
        work.openUnsafe()
        return Effect.onInterrupt(Deferred.await(insert.done), () =>
          Effect.sync(() => {
            inserts.delete(row.id)
            if (!insert.isSent) return
            withdrawn.add(row.id)
            work.openUnsafe()
          })
        )
      }),
    /** Changes a query, and tells whether it was this incarnation's to change. */
    change: (claim: Claim, row: PgQueryRow.ChangeOf): Effect.Effect<boolean> =>
      Effect.suspend(() => {
        if (claim.incarnation !== incarnation) return Effect.succeed(false)
        const waiting = changes.get(claim.id)
        if (waiting !== undefined) {
          // A state on the way may come late: it takes no outcome's place.
          if (row.over || !waiting.row.over) waiting.row = row
          return Deferred.await(waiting.done)
        }
        const change: Change = { claim, row, done: Deferred.makeUnsafe() }
        changes.set(claim.id, change)
        work.openUnsafe()
        return Deferred.await(change.done)
      }),
    /** Whether nothing is left to be written of a query. */
    isIdle: (id: QueryId): boolean => !changes.has(id) && batch?.changes.has(id) !== true
  }
})

export type PgQueryWriter = Effect.Success<ReturnType<typeof make>>
