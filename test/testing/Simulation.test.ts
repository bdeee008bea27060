import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Hints } from "../../src/session/internal/MemorySession.ts"
import * as MemorySessionStore from "../../src/session/MemorySessionStore.ts"
import { scale } from "../../src/testing/InterruptSweep.ts"
import * as Simulation from "../../src/testing/Simulation.ts"
import { faults } from "./brokenStore.ts"

/** Other seeds each day. A failure prints the seed. */
const today = Math.floor(Date.now() / 86_400_000) * 1_000_000
const millis = 1400 * scale

describe("a simulated process", () => {
  for (const [name, scenario] of Object.entries(Simulation.scenarios)) {
    it(
      `breaks no law of ${name}, whatever the seed`,
      () => {
        const known = Simulation.search(scenario, { seeds: 50 })
        const found = Simulation.search(scenario, { from: today, seeds: 1_000_000, within: millis })
        for (const broken of [...known.broken, ...found.broken]) assert.fail(Simulation.report(broken))
        assert.isAbove(found.seeds, 20)
      },
      60_000 + millis
    )
  }

  // A login whose answer is lost, a session whose birth nobody saw, an end under a strange token, revocations beside logins.
  for (const seed of [1_021_791, 1_044_474, 1_067_181, 1_091_004, 1_103_082, 1_122_790, 1_192_973]) {
    it(`asks of sessions no more than what is certain, with seed ${seed}`, () => {
      const broken = Simulation.seed(Simulation.scenarios.sessions, seed)
      if (broken !== undefined) assert.fail(Simulation.report(broken))
    })
  }

  // A pool that opened connections while it closed, borrowers that were handed one just then, a server without room, borrowers that
  // go on in another order than they were granted their permits.
  for (const seed of [1187, 4886, 114_279, 115_577, 725_040, 949_465, 950_210]) {
    it(`keeps its pools' promises with seed ${seed}`, () => {
      const broken = Simulation.seed(Simulation.scenarios.pools, seed)
      if (broken !== undefined) assert.fail(Simulation.report(broken))
    })
  }

  for (const fault of ["a login in a session makes no room", "a login leaves the old token alive"]) {
    it(`finds a store where ${fault}, with a short history that its seed repeats`, () => {
      const [, , broken] = faults.find(([, name]) => name === fault) ?? assert.fail(fault)
      const store = Effect.map(Effect.provideService(MemorySessionStore.make, Hints, 64), (store) => ({
        ...store,
        ...broken(store)
      }))
      const scenario = Simulation.sessionsOver(store)
      const [found] = Simulation.search(scenario, { seeds: 3000, within: 20_000 * scale }).broken
      if (found === undefined) return assert.fail("no seed found it")
      assert.isAtMost(found.steps.length, 8, Simulation.report(found))
      const again = Simulation.seed(scenario, found.seed)
      assert.strictEqual(again && Simulation.report(again), Simulation.report(found))
    }, 60_000)
  }
})
