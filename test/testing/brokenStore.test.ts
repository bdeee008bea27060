/** The suite of laws names each fault of a store that is broken on purpose. `HOLDFAST_TEST_SCALE=2` prints all laws that a fault breaks. */
import { assert, describe, it } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { scale } from "../../src/testing/InterruptSweep.ts"
import * as SessionStoreLaws from "../../src/testing/SessionStoreLaws.ts"
import { unprunedStore } from "../support/sessions.ts"
import { faults } from "./brokenStore.ts"

type Store = SessionStore["Service"]

const worldOf = (broken: (store: Store) => Partial<Store>) =>
  Layer.effect(
    SessionStoreLaws.World,
    Effect.map(SessionStore, (whole) => {
      const store = { ...whole, ...broken(whole) }
      return { store, another: store, advance: TestClock.adjust }
    })
  ).pipe(Layer.provide(unprunedStore))

const check = (
  broken: (store: Store) => Partial<Store>,
  only?: ReadonlyArray<string>,
  limit: Duration.Input = "300 millis"
) => SessionStoreLaws.check(worldOf(broken), { name: "broken", clock: "test" }, { limit, only })

describe("a store that is broken on purpose", () => {
  it("has a fault for each law", () => {
    assert.sameMembers(
      faults.map(([law]) => law),
      SessionStoreLaws.laws.map(({ name }) => name)
    )
  })

  it.live("breaks no law without a fault", () =>
    Effect.map(
      check(() => ({}), undefined, "10 seconds"),
      (broken) => assert.deepStrictEqual(broken, [])
    )
  )

  it.live("is told with what was expected and where in the law", () =>
    Effect.gen(function* () {
      const [law, , broken] = faults[0] ?? assert.fail("there are faults")
      const [found] = yield* check(broken, [law], "10 seconds")
      assert.match(found?.error ?? "", /^\S*Error: .+\n( +.*\n)* +at .*SessionStoreLaws\w+\.[jt]s:\d+:\d+/)
    })
  )

  for (const [law, fault, broken] of faults) {
    it.live(`is found where ${fault}: ${law}`, () =>
      Effect.gen(function* () {
        const found = yield* check(broken, scale > 1 ? undefined : [law])
        assert.include(
          found.map(({ law }) => law),
          law
        )
        if (scale > 1) console.log(`${fault} | ${found.map(({ law }) => law).join(" | ")}`)
      })
    )
  }
})
