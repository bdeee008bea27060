import { assert, describe, it } from "@effect/vitest"
import * as QueryState from "../../src/query/QueryState.ts"

/** Drawn by hand from the picture in the design. */
const legal = new Set([
  "Queued Starting",
  "Queued Canceling",
  "Queued Failed",
  "Starting Running",
  "Starting Canceling",
  "Starting Failed",
  "Running Canceling",
  "Running Succeeded",
  "Running Failed",
  "Canceling Canceled",
  "Canceling Succeeded",
  "Canceling Failed",
  "Succeeded Expired",
  "Failed Expired",
  "Canceled Expired"
])

describe("QueryState", () => {
  it("has the steps of the design and no others", () => {
    const steps = QueryState.all.flatMap((from) =>
      QueryState.all.filter((to) => QueryState.isStep(from, to)).map((to) => `${from} ${to}`)
    )
    assert.deepStrictEqual(new Set(steps), legal)
  })

  it("is terminal where nothing but expiry can follow", () => {
    for (const state of QueryState.all) {
      const next = QueryState.all.filter((to) => QueryState.isStep(state, to))
      assert.strictEqual(
        QueryState.isTerminal(state),
        next.every((to) => to === "Expired"),
        state
      )
    }
  })

  it("comes to an end from everywhere, and nothing comes back", () => {
    for (const state of QueryState.all) {
      const reached = new Set([state])
      for (const from of reached) for (const to of QueryState.all) if (QueryState.isStep(from, to)) reached.add(to)
      assert.isTrue(reached.has("Expired"), state)
      if (QueryState.isTerminal(state))
        assert.isFalse(
          [...reached].some((to) => !QueryState.isTerminal(to)),
          state
        )
    }
  })
})
