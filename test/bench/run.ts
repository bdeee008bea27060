/**
 * What the primitives cost, as ratios within one run: rounds of all contenders take turns, and medians are printed with
 * their range. No database, no socket and no log is involved.
 *
 * `npm run bench`
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Ledger from "../../src/Ledger.ts"
import * as Lifetime from "../../src/Lifetime.ts"

const times = 2000
const rounds = 15

const repeat = (effect: Effect.Effect<unknown>) => Effect.repeat(effect, { times: times - 1 })
const contenders: Readonly<Record<string, Effect.Effect<unknown>>> = {
  "scope: fork and close": repeat(
    Effect.flatMap(Effect.scope, (scope) =>
      Effect.flatMap(Scope.fork(scope), (child) => Scope.close(child, Exit.void))
    ).pipe(Effect.scoped)
  ),
  "lifetime: make and end": repeat(
    Effect.flatMap(Lifetime.scoped({ kind: "bench", id: "bench" }), ({ end }) => end()).pipe(Effect.scoped)
  ),
  acquireRelease: repeat(Effect.scoped(Effect.acquireRelease(Effect.void, () => Effect.void))),
  "ledger: hold": repeat(Effect.scoped(Ledger.hold({ kind: "bench", id: "bench" }, Effect.void, () => Effect.void)))
}

const measured = new Map<string, Array<number>>(Object.keys(contenders).map((name) => [name, []]))
for (let round = 0; round < rounds + 3; round++) {
  for (const [name, contender] of Object.entries(contenders)) {
    const begun = performance.now()
    await Effect.runPromise(contender)
    if (round >= 3) measured.get(name)?.push(((performance.now() - begun) * 1000) / times)
  }
}
const rows = Array.from(measured, ([name, values]) => {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (index: number) => (sorted.at(index) ?? Number.NaN).toFixed(2)
  return { name, "median µs": at(Math.floor(sorted.length / 2)), "min µs": at(0), "max µs": at(-1) }
})
console.table(rows)
