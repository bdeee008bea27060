/**
 * How many functions principals have, as one instance of `PgFunctionStore` knows it, for as long as the store lives.
 *
 * **Details**
 *
 * Counting looks at every function of a principal, so it is done once a second at most while they create some; what is created here
 * meanwhile is added. Nobody is refused before it was counted anew.
 */
import * as Effect from "effect/Effect"
import type { Room } from "../../function/FunctionStore.ts"

/** In milliseconds of the steady clock. */
const fresh = 1000

/** More principals than these are not remembered. */
const mostPrincipals = 10_000

interface Counted {
  functions: number
  bytes: number
  readonly at: number
}

/** Takes room over what counts it. */
export const make = <E>(count: (principal: string) => Effect.Effect<Room, E>, now: () => number) => {
  const counted = new Map<string, Counted>()
  const anew = (principal: string) =>
    Effect.map(count(principal), ({ bytes, functions }) => {
      if (counted.size >= mostPrincipals) counted.clear()
      const known: Counted = { functions, bytes, at: now() }
      counted.set(principal, known)
      return known
    })
  const isFull = (known: Counted, bytes: number, room: Room) =>
    known.functions >= room.functions || known.bytes + bytes > room.bytes

  /** Takes room for a function, or says what the principal has where there is none. */
  return Effect.fnUntraced(function* (principal: string, bytes: number, room: Room) {
    const known = counted.get(principal)
    const isKnown = known !== undefined && now() - known.at < fresh && !isFull(known, bytes, room)
    const counts = isKnown ? known : yield* anew(principal)
    if (isFull(counts, bytes, room)) return { functions: counts.functions, bytes: counts.bytes }
    counts.functions++
    counts.bytes += bytes
    return undefined
  })
}
