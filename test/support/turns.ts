/**
 * What the turns of a service's event loop cost while something was done to it, see `turnsProgram.ts`.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { eventually } from "./conditions.ts"
import type { Service } from "./service.ts"

const Told = Schema.fromJsonString(Schema.Struct({ told: Schema.Int, worst: Schema.Finite, resident: Schema.Int }))

/** What is told of a service. */
export interface Turns {
  /** What to start it with. */
  readonly env: Readonly<Record<string, string>>
  /** The most processor time of one turn, in milliseconds, and the most resident memory, in bytes, since it was asked last. */
  readonly look: (
    service: Pick<Service, "signal">
  ) => Effect.Effect<{ readonly worst: number; readonly resident: number }>
}

/** For the current scope. */
export const make: Effect.Effect<Turns, never, Scope.Scope> = Effect.gen(function* () {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "holdfast-turns-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true }))
  )
  const file = join(directory, "turns.json")
  const told = Effect.sync(() =>
    existsSync(file) ? Schema.decodeUnknownSync(Told)(readFileSync(file, "utf8")) : undefined
  )
  return {
    env: {
      NODE_OPTIONS: `--import=${join(import.meta.dirname, "turnsProgram.ts")}`,
      HOLDFAST_TEST_TURNS: file
    },
    look: ({ signal }) =>
      Effect.gen(function* () {
        const before = (yield* told)?.told ?? 0
        yield* signal("SIGUSR2")
        const found = yield* Effect.orDie(eventually(told, (it) => it !== undefined && it.told > before, "60 seconds"))
        return found ?? { worst: 0, resident: 0 }
      })
  }
})
