/**
 * `holdfast migrate` and `holdfast prune`: what the service does to its tables by itself, done now and told.
 *
 * Both may be run beside running services, and again.
 */
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Databases from "../server/Databases.ts"
import * as Migrations from "../server/Migrations.ts"
import * as Settings from "../server/Settings.ts"
import { SessionStore } from "../session/SessionStore.ts"
import { database, explained } from "./CommandDatabase.ts"

/** Says what is to be done, and does it, unless it is only to be said. */
export const migrate = (dryRun: boolean) =>
  Effect.gen(function* () {
    const settings = yield* Settings.load
    const databases = yield* Databases.join(settings)
    let steps = 0
    for (const { of, pending, run } of Migrations.all(settings, databases)) {
      const missing = yield* pending
      steps += missing.length
      for (const step of missing) yield* Console.log(`${of}: ${step}${dryRun ? " is to be applied" : " …"}`)
      if (dryRun || missing.length === 0) continue
      yield* run
      yield* Console.log(`${of}: up to date`)
    }
    if (steps === 0) yield* Console.log("The tables are up to date.")
    else if (dryRun) yield* Console.log("Nothing was changed. Without --dry-run this is applied.")
  }).pipe(Effect.scoped, explained)

/** Sessions that are removed with a statement. */
const batch = 1000

/** Removes sessions whose tombstones are a day old, until there are no more. */
export const prune = Effect.gen(function* () {
  const { services } = yield* database
  yield* Effect.gen(function* () {
    const store = yield* SessionStore
    let removed = 0
    for (;;) {
      const { more = false, sessions } = yield* store.prune(batch)
      removed += sessions
      if (sessions > 0) yield* Console.log(`${removed} sessions removed`)
      if (sessions < batch && !more) break
    }
    const lag = yield* store.pruneLag
    yield* Console.log(
      Duration.toMillis(lag) > 0
        ? `Done. The oldest that is left is overdue for ${Duration.format(lag)}.`
        : `Done. ${removed === 0 ? "There was nothing to remove" : "Nothing is left to remove"}.`
    )
  }).pipe(Effect.provide(services))
}).pipe(Effect.scoped, explained)
