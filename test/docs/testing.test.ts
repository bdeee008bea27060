import { describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import "../../docs/examples/notes-app-tests.ts"
import * as Testing from "../../docs/examples/testing.ts"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as TestSql from "../../src/testing/TestSql.ts"

const quiet = Effect.provideService(References.MinimumLogLevel, "None")

describe("docs/examples/testing.ts", () => {
  it.live("a report ends with its session", () => quiet(Testing.aReportEndsWithItsSession))
  it.live("one browser does not log the other out", () => quiet(Testing.oneBrowserDoesNotLogTheOtherOut))
  it.effect("an idle session expires", () => quiet(Testing.anIdleSessionExpires))
  it.effect("a timer knows nothing of the time of day", () => quiet(Testing.aTimerKnowsNothingOfTheTimeOfDay))
  it.live("a standby takes over", () => quiet(Testing.aStandbyTakesOver))
  it.live("Redis may stand still", () => quiet(Testing.redisMayStandStill))
  it.live("no lease is lost, wherever its borrower is interrupted", () => quiet(Testing.noLeaseIsLost))
  it.live("a connection is reset before it is lent again", () => quiet(Testing.aConnectionIsResetBeforeItIsLentAgain))
  it.live("a failed statement is told", () => quiet(Testing.aFailedStatementIsTold))
})

const database = Layer.unwrap(
  Effect.map(TestPostgres.TestPostgres, ({ superuserUrl: url }) =>
    TestSql.layerDatabase({ url, migrate: (url) => PgSessionStore.migrate({ url }) })
  )
)

layer(database.pipe(Layer.provideMerge(TestPostgres.layer())), { excludeTestServices: true })(
  "docs/examples/testing.ts, on one server",
  (it) => {
    it.effect("sessions are vacuumed in a database of a test's own", () => quiet(Testing.sessionsAreVacuumed))
    it.effect("the pool replaces what the network cut", () => quiet(Testing.thePoolReplacesWhatTheNetworkCut))
    it.effect("PostgreSQL may restart", () => quiet(Testing.postgresMayRestart))
  }
)
