/**
 * What one instance asks all instances, and what this one answers.
 *
 * It lives as long as its scope. A question lives as long as somebody waits for its answers, two seconds at the usual times.
 *
 * **Details**
 *
 * The question is a row of a table, and a notification says that there is one: a role that may only notify asks nothing. An answer
 * is a row, too. A question that was told while nobody listened is found when the connection listens again.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import type { QueryError } from "../../query/QueryError.ts"
import * as QueryId from "../../query/QueryId.ts"
import type * as QueryJournal from "../../query/QueryJournal.ts"
import type { PgQuerySql } from "./PgQuerySql.ts"
import * as PgQueryRow from "./PgQueryRow.ts"

export interface Options {
  readonly statements: PgQuerySql
  readonly query: (
    sql: string,
    params: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<PgQueryRow.Row>, QueryError>
  /** How long answers are waited for. */
  readonly patience: Duration.Duration
  readonly incarnation: () => string | undefined
  /** Listens from now on; the effect within returns when there is news of the id. */
  readonly news: (id: QueryId.QueryId) => Effect.Effect<Effect.Effect<void>, never, Scope.Scope>
}

const decodeAlive = PgQueryRow.decode(Schema.Tuple([Schema.String, Schema.String, Schema.Finite, Schema.Int]))
const decodeAsked = PgQueryRow.decode(Schema.Tuple([QueryId.QueryId, Schema.String]))
const decodeAnswer = PgQueryRow.decode(Schema.Tuple([Schema.String, Schema.String]))

type Answering = Parameters<QueryJournal.Shared["answering"]>[0]

export const make = Effect.fnUntraced(function* ({ incarnation, news, patience, query, statements }: Options) {
  const answering = new Set<Answering>()
  const some = Latch.makeUnsafe(false)

  const answerAll = Effect.gen(function* () {
    const me = incarnation()
    if (me === undefined || answering.size === 0) return
    const asked = yield* Effect.forEach(yield* query(statements.asked, [me]), decodeAsked)
    for (const [id, question] of asked) {
      for (const answer of answering) {
        const text = yield* answer(question)
        if (text !== undefined) yield* query(statements.answer, [id, me, text])
      }
    }
  })
  const answers = Effect.gen(function* () {
    yield* some.await
    // What is asked from now on is another round.
    some.closeUnsafe()
    yield* answerAll
  }).pipe(
    Effect.catchCause((cause) =>
      LogEvent.debug({ event: "question.unanswered" }, "A question of another instance was not answered", cause)
    )
  )
  yield* Effect.forkScoped(Effect.forever(answers))

  const ask = (question: string) =>
    Effect.gen(function* () {
      // It has an id like that of a query, and its answers are news of it.
      const id = QueryId.make()
      yield* Effect.addFinalizer(() => Effect.ignore(query(statements.forgetQuestion, [id])))
      const alive = yield* Effect.forEach(yield* query(statements.ask, [id, question]), decodeAlive)
      const known = new Map<string, string>()
      const read = Effect.gen(function* () {
        const rows = yield* query(statements.answers, [id, JSON.stringify(Array.from(known.keys()))])
        for (const [instance, answer] of yield* Effect.forEach(rows, decodeAnswer)) known.set(instance, answer)
        return alive.every(([instance]) => known.has(instance))
      })
      /** It listens first and looks then, so that no answer is missed. */
      const round = Effect.scoped(
        Effect.flatMap(news(id), (news) =>
          Effect.flatMap(read, (isAll) => (isAll ? Effect.succeed(true) : Effect.as(news, false)))
        )
      )
      yield* Effect.timeoutOption(Effect.repeat(round, { until: (isAll) => isAll }), patience)
      return alive.map(([incarnation, instance, since]): QueryJournal.Answer => ({
        instance,
        since,
        answer: known.get(incarnation)
      }))
    }).pipe(Effect.scoped)

  return {
    ask,
    /** There may be a question. */
    asked: (): void => void some.openUnsafe(),
    answering: (answer: Answering) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => answering.add(answer)),
          () => Effect.sync(() => answering.delete(answer))
        )
      )
  }
})
