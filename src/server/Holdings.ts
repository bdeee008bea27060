/**
 * What the process holds, for operators: the ledger as it is at one moment; and what all instances hold, each as it says.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Timestamp } from "../http/internal/Wire.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import * as QueryJournal from "../query/QueryJournal.ts"

const fields = {
  kind: Schema.String,
  id: Schema.String,
  since: Timestamp,
  /** `file:line` of the code that acquired it, where that is known. */
  site: Schema.NullOr(Schema.String),
  attributes: Schema.Record(Schema.String, Schema.Union([Schema.String, Schema.Finite, Schema.Boolean])),
  state: Schema.Literals(["held", "ending", "stalled"])
}
const Flat = Schema.Struct(fields)

/** One open thing, with what is held under it. */
export interface Holding extends Schema.Struct.Type<typeof fields> {
  readonly holdings: ReadonlyArray<Holding>
}
/** A {@link Holding} as JSON. */
export interface HoldingEncoded extends Schema.Struct.Encoded<typeof fields> {
  readonly holdings: ReadonlyArray<HoldingEncoded>
}

const Holding = Schema.Struct({
  ...Flat.fields,
  holdings: Schema.Array(Schema.suspend((): Schema.Codec<Holding, HoldingEncoded> => Holding))
}).annotate({ identifier: "Holding" })

/** Those held for longest, as a tree. One whose holder is gone stands at the top. */
export const Holdings = Schema.Struct({
  /** How many there are. */
  total: Schema.Int,
  /** How many of them are not shown: the latest. */
  omitted: Schema.Int,
  holdings: Schema.Array(Holding)
})

/** At most so many of what is held now. */
export const read = Effect.fnUntraced(function* (limit: number) {
  const all = yield* (yield* Ledger.Ledger).holdings
  const shown = all.slice(0, limit)
  const nodes = new Map(
    shown.map(({ attributes, id, key, kind, since, site = null, state }) => {
      const children: Array<Holding> = []
      return [
        key,
        { children, node: { kind, id, since: DateTime.makeUnsafe(since), site, attributes, state, holdings: children } }
      ] as const
    })
  )
  const holdings: Array<Holding> = []
  for (const { key, parent } of shown) {
    const own = nodes.get(key)
    const under = parent === undefined ? undefined : nodes.get(parent)
    if (own !== undefined) (under?.children ?? holdings).push(own.node)
  }
  return { total: all.length, omitted: all.length - shown.length, holdings }
})

/** What instances ask each other. */
const Question = Schema.fromJsonString(Schema.Struct({ holdings: Schema.Struct({ limit: Schema.Int }) }))
const decodeQuestion = Schema.decodeUnknownEffect(Question)
const Told = Schema.fromJsonString(Holdings)
const encodeTold = Schema.encodeEffect(Told)
const decodeTold = Schema.decodeUnknownEffect(Told)

/** Answers other instances until the scope closes. What is no question of ours has no answer. */
export const answering = (journal: QueryJournal.Shared) =>
  Effect.flatMap(Ledger.Ledger, (ledger) =>
    journal.answering((question) =>
      Effect.orElseSucceed(
        Effect.gen(function* () {
          const { holdings } = yield* decodeQuestion(question)
          return yield* encodeTold(yield* read(holdings.limit))
        }).pipe(Effect.provideService(Ledger.Ledger, ledger)),
        () => undefined
      )
    )
  )

/**
 * At most so many of what all instances hold, an equal share of each. An instance is a holding, and what it holds is under it; one
 * that does not answer in time, or not in a way that is understood, is `stalled`. Where instances do not share their queries, it is
 * what this one holds.
 */
export const readAll = Effect.fnUntraced(function* (limit: number) {
  const journal = yield* QueryJournal.QueryJournal
  if (journal === undefined) return yield* read(limit)
  const { instances } = yield* journal.standing
  const share = Math.max(1, Math.floor(limit / instances))
  const answers = yield* journal.ask(JSON.stringify({ holdings: { limit: share } } satisfies typeof Question.Type))
  const all = yield* Effect.forEach(answers, ({ answer, instance, since }) =>
    Effect.map(Effect.option(decodeTold(answer)), (told) => ({ instance, since, told: Option.getOrUndefined(told) }))
  )
  const sum = (of: "omitted" | "total") => all.reduce((sum, { told }) => sum + (told?.[of] ?? 0), 0)
  return {
    total: sum("total"),
    omitted: sum("omitted"),
    holdings: all.map(({ instance, since, told }): Holding => ({
      kind: "instance",
      id: instance,
      since: DateTime.makeUnsafe(since),
      site: null,
      attributes: told === undefined ? { answered: false } : { answered: true, total: told.total },
      state: told === undefined ? "stalled" : "held",
      holdings: told?.holdings ?? []
    }))
  }
})
