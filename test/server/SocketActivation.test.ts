import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as SocketActivation from "../../src/server/SocketActivation.ts"

describe("a socket that is handed over", () => {
  it.effect("is taken where the variables are meant for this process, and there must be one of them", () =>
    Effect.gen(function* () {
      const handed = (environment: SocketActivation.Environment) => SocketActivation.handed(environment, 7)
      assert.deepStrictEqual(yield* handed({ LISTEN_FDS: "1", LISTEN_PID: "7" }), Option.some(3))
      for (const nothing of [{}, { LISTEN_FDS: "1" }, { LISTEN_FDS: "1", LISTEN_PID: "8" }, { LISTEN_PID: "7" }]) {
        assert.deepStrictEqual(yield* handed(nothing), Option.none())
      }
      const refused = yield* Effect.flip(handed({ LISTEN_FDS: "2", LISTEN_PID: "7" }))
      assert.strictEqual(
        refused.message,
        "LISTEN_FDS is 2, and Holdfast listens on one socket. Give its socket unit one ListenStream"
      )
    })
  )
})
