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
const Said = Schema.fromJsonString(Schema.Struct({ resident: Schema.Int, used: Schema.Int }))

const mebibyte = 1024 * 1024

/** By how many bytes a program grows that runs so many statements. */
const grown = Effect.fnUntraced(function* (what: "texts" | "columns", count: number) {
  const { url } = yield* freshDatabase
  const { stdout } = yield* Effect.promise(() =>
    promisify(execFile)(process.execPath, ["--expose-gc", script, Redacted.value(url), what, String(count)])
  )
  return yield* Schema.decodeUnknownEffect(Said)(stdout)
}, Effect.scoped)

it.live(
  "Q6 a process does not grow by what failing statements say",
  () =>
    Effect.map(grown("texts", Math.min(40 * scale, 1000)), ({ resident }) => assert.isBelow(resident, 100 * mebibyte)),
  1_200_000
)

it.live(
  "Q6 a process grows by empty tables of many columns no more than by all that records may keep",
  () => Effect.map(grown("columns", 400 * scale), ({ used }) => assert.isBelow(used, 150 * mebibyte)),
  1_200_000
)
