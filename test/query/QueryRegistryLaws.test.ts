import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scripted from "../support/scripted.ts"
import * as Shared from "../support/sharedQueries.ts"
import * as Laws from "./queryRegistryLaws.ts"

Laws.run("QueryRegistry over its own memory", Layer.succeed(Laws.World, { open: Scripted.open }))

Laws.run(
  "QueryRegistry over PgQueryJournal",
  Layer.effect(
    Laws.World,
    Effect.map(Shared.database, ({ url }) => ({
      open: (registry, script) => Shared.start(url, { registry, script })
    }))
  )
)
