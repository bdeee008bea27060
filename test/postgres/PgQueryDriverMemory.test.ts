import { assert, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { join } from "node:path"
import { promisify } from "node:util"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { scale } from "../../src/testing/InterruptSweep.ts"
import { freshDatabase } from "../support/postgres.ts"

const script = join(import.meta.dirname, "../support/retentionProgram.ts")
const Said = Schema.fromJsonString(Schema.Struct({ grown: Schema.Int }))

it.live(
  "Q6 a process does not grow by what failing statements say, nor by tables of many columns that are empty",
  () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const count = Math.min(30 * scale, 1000)
      const { stdout } = yield* Effect.promise(() =>
        promisify(execFile)(process.execPath, ["--expose-gc", script, Redacted.value(url), String(count)])
      )
      const { grown } = yield* Schema.decodeUnknownEffect(Said)(stdout)
      assert.isBelow(grown, 100 * 1024 * 1024)
    }).pipe(Effect.scoped),
  1_200_000
)
