// The test file of the store of sqlite-store.ts: with vitest, `npx vitest run` declares a test for each law.

// #region laws
import { Effect, Layer } from "effect"
import * as TestClock from "effect/testing/TestClock"
import * as SessionStoreLaws from "holdfast/testing/SessionStoreLaws"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as SqliteStore from "./sqlite-store.ts"

/** Each law gets a new file, with two instances of the store on it. */
const world = Layer.effect(
  SessionStoreLaws.World,
  Effect.gen(function* () {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "sessions-"))),
      (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true }))
    )
    const file = join(directory, "sessions.db")
    return {
      store: yield* SqliteStore.make(file),
      another: yield* SqliteStore.make(file),
      advance: TestClock.adjust // the store takes its time from Effect's `Clock`
    }
  })
)

SessionStoreLaws.run(world, { name: "SqliteStore", clock: "test", hints: false })
// #endregion
