import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as QueryTimeouts from "../../src/server/QueryTimeouts.ts"

const millisOf = (text: string) => {
  const users = QueryTimeouts.parseUsers(text)
  return users === undefined ? undefined : Array.from(users, ([name, timeout]) => [name, Duration.toMillis(timeout)])
}

describe("the times of users", () => {
  it("are a list of names with durations up to a day", () => {
    assert.deepStrictEqual(millisOf(""), [])
    assert.deepStrictEqual(millisOf("alice=5 minutes, etl=1 day"), [
      ["alice", 300_000],
      ["etl", 86_400_000]
    ])
    assert.deepStrictEqual(millisOf("a=b=1 second"), [["a=b", 1000]])
    for (const text of ["alice", "=1 hour", "alice=", "alice=soon", "alice=2 days", "alice=0 millis", "a=-1 hours"]) {
      assert.isUndefined(millisOf(text), text)
    }
    assert.isUndefined(millisOf("a=1 hour,a=2 hours"), "a name that is there twice")
    assert.isUndefined(millisOf("a=Infinity"), "no end")
  })

  it.effect("stand for the usual and the longest one; what is longer is refused with the most", () =>
    Effect.gen(function* () {
      const timeouts = {
        usual: Duration.minutes(1),
        longest: Duration.minutes(2),
        users: new Map([
          ["hasty", Duration.seconds(1)],
          ["etl", Duration.hours(8)]
        ])
      }
      const of = (user: string, asked?: number) =>
        Effect.map(
          QueryTimeouts.of(timeouts, user, asked),
          (timeout) => timeout === undefined || Duration.toMillis(timeout)
        )
      assert.strictEqual(yield* of("alice"), true)
      assert.strictEqual(yield* of("alice", 120_000), 120_000)
      assert.include((yield* Effect.flip(of("alice", 120_001))).detail, "120000")
      assert.strictEqual(yield* of("hasty"), 1000)
      assert.include((yield* Effect.flip(of("hasty", 1001))).detail, "1000")
      assert.strictEqual(yield* of("etl"), 28_800_000)
      assert.strictEqual(yield* of("etl", 28_800_000), 28_800_000)
    })
  )
})
