/**
 * Types that are not built in: their names, and what they are made of, as the server's catalogue has them.
 *
 * What was looked up is remembered for a minute, so that a type that was renamed is known by its new name soon. It lives as
 * long as the driver, which talks with one database.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { Buffer } from "node:buffer"
import { builtIn, type PgType } from "./PgBuiltInTypes.ts"
import * as PgFrames from "./PgFrames.ts"
import type * as PgValues from "./PgValues.ts"
import type * as PgWire from "./PgWire.ts"

const rememberedMillis = 60_000

/** More are forgotten, all at once: a statement asks for few. */
const maxRemembered = 10_000

/** A statement of this name leaves the one without a name alone, which may have been prepared already. */
const statementName = "holdfast types"

/** Nothing is found by the search path, which may be somebody else's choice. */
const questionOf = (typeIds: ReadonlyArray<number>) => `
  SELECT t.oid, t.typname, t.typdelim, t.typbasetype, e.oid, e.typname
  FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type e ON e.typarray OPERATOR(pg_catalog.=) t.oid
  WHERE t.oid OPERATOR(pg_catalog.=) ANY ('{${typeIds.join(",")}}'::pg_catalog.oid[])`

const ask = (wire: PgWire.PgWire, typeIds: ReadonlyArray<number>) =>
  wire.exchange({
    messages: Buffer.concat([
      PgFrames.parse(statementName, questionOf(typeIds)),
      PgFrames.execute(statementName),
      PgFrames.close(statementName),
      PgFrames.sync
    ]),
    cycles: 1
  })

interface Remembered {
  readonly type: PgType
  readonly at: number
}

export class PgTypes {
  private readonly remembered = new Map<number, Remembered>()

  readonly get: PgValues.Types = (typeId) => builtIn.get(typeId) ?? this.remembered.get(typeId)?.type

  /** Whether all of these are known, and their names not from long ago. */
  knows(typeIds: ReadonlyArray<number>, now: number): boolean {
    return typeIds.every((id) => !this.isMissing(id, now))
  }

  private isMissing(typeId: number, now: number): boolean {
    if (typeId === 0 || builtIn.has(typeId)) return false
    const known = this.remembered.get(typeId)
    return known === undefined || now - known.at > rememberedMillis || now < known.at
  }

  /**
   * Looks up what is not known of some types, and of what they are made of, on a connection without a statement under way. What
   * cannot be looked up stays unknown.
   */
  readonly learn = (wire: PgWire.PgWire, typeIds: ReadonlyArray<number>): Effect.Effect<void> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const missing = Array.from(new Set(typeIds)).filter((id) => this.isMissing(id, now))
      if (missing.length === 0) return Effect.void
      return ask(wire, missing).pipe(
        Effect.flatMap(([rows = []]) => {
          if (this.remembered.size + missing.length > maxRemembered) this.remembered.clear()
          const parts = rows.flatMap(([id, name, delimiter, base, element, elementName]) => {
            const type: PgType = {
              name: element === null ? (name ?? "") : `${elementName}[]`,
              delimiter: delimiter ?? ",",
              ...(element !== null && { element: Number(element) }),
              ...(base !== "0" && { base: Number(base) })
            }
            this.remembered.set(Number(id), { type, at: now })
            return [type.base ?? 0, type.element ?? 0]
          })
          return this.learn(wire, parts)
        }),
        Effect.ignore
      )
    })
}
