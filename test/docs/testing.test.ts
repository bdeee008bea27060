import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import "../../docs/examples/notes-app-tests.ts"
import * as Testing from "../../docs/examples/testing.ts"

const quiet = Effect.provideService(References.MinimumLogLevel, "None")

describe("docs/examples/testing.ts", () => {
  it.live("a report ends with its session", () => quiet(Testing.aReportEndsWithItsSession))
  it.live("one browser does not log the other out", () => quiet(Testing.oneBrowserDoesNotLogTheOtherOut))
  it.effect("an idle session expires", () => quiet(Testing.anIdleSessionExpires))
  it.live("PostgreSQL may restart", () => quiet(Testing.postgresMayRestart))
  it.live("Redis may stand still", () => quiet(Testing.redisMayStandStill))
  it.live("the pool replaces what the network cut", () => quiet(Testing.thePoolReplacesWhatTheNetworkCut))
  it.live("no lease is lost, wherever its borrower is interrupted", () => quiet(Testing.noLeaseIsLost))
  it.live("a connection is reset before it is lent again", () => quiet(Testing.aConnectionIsResetBeforeItIsLentAgain))
  it.live("a failed statement is told", () => quiet(Testing.aFailedStatementIsTold))
})
