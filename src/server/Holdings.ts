/**
 * What the process holds, for operators: the ledger as it is at one moment.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Timestamp } from "../http/internal/Wire.ts"
import * as Ledger from "../lifetime/Ledger.ts"

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
