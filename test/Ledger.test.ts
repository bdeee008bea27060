import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Ledger from "../src/Ledger.ts"

describe("Ledger", () => {
  for (const releaseLimit of ["none", "3 seconds"] as const) {
    for (const [name, use] of [
      ["a success", Effect.succeed("result")],
      ["a failure", Effect.fail("own failure")]
    ] as const) {
      it.effect(
        `C8 a release that fails after ${name} is logged with what it was, and the result stands (limit: ${releaseLimit})`,
        () =>
          Effect.gen(function* () {
            const lines: Array<string> = []
            const logger = Logger.make(({ logLevel, message }) => lines.push(`${logLevel} ${String(message)}`))
            const held = Ledger.hold({ kind: "thing", id: "t1", releaseLimit }, Effect.void, () => Effect.die("broken"))
            const exit = yield* Effect.exit(Effect.scoped(Effect.andThen(held, use))).pipe(
              Effect.provide(Logger.layer([logger]))
            )
            assert.deepStrictEqual(exit, yield* Effect.exit(use))
            assert.strictEqual(lines.length, 1)
            assert.match(lines[0] ?? "", /^Warn Releasing thing t1 failed; the result of the work stands,.*broken/s)
            const ledger = yield* Ledger.Ledger
            assert.isEmpty(yield* ledger.holdings)
            assert.strictEqual((yield* ledger.totals).get("thing")?.failed, 1)
          }).pipe(Effect.provide(Ledger.layer))
      )
    }
  }
})
