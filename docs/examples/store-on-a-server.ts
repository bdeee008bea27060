/** The laws of a store whose sessions are on a server that all laws share. `PgSessionStore` stands for yours. */
// #region laws
import { layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import * as PgSessionStore from "holdfast/postgres/PgSessionStore"
import { SessionStore } from "holdfast/session/SessionStore"
import * as SessionStoreLaws from "holdfast/testing/SessionStoreLaws"
import * as TestPostgres from "holdfast/testing/TestPostgres"
import * as TestSql from "holdfast/testing/TestSql"

/** Two instances of the store on a database of their own, for each law. */
const world = Layer.effect(
  SessionStoreLaws.World,
  Effect.gen(function* () {
    const { superuserUrl } = yield* TestPostgres.TestPostgres
    const { url } = yield* TestSql.makeEmpty(superuserUrl)
    yield* PgSessionStore.migrate({ url })
    const instance = Effect.map(
      Layer.build(Layer.fresh(PgSessionStore.layer({ url, pruning: false }))),
      Context.get(SessionStore)
    )
    // Nobody moves the clock of this server: `moves` says so, and no law that needs it is tried.
    return { store: yield* instance, another: yield* instance, advance: () => Effect.void }
  })
)

// One server for all laws. Its clock is the real one, so the tests get no other.
layer(TestPostgres.layer(), { excludeTestServices: true, timeout: "1 minute" })("on a server", (it) => {
  SessionStoreLaws.run(world, { name: "a store", clock: "server", moves: "nothing" }, { test: it.effect })
})
// #endregion
