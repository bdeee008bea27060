/**
 * One real PostgreSQL server for the whole test run: started before the first test file, stopped after the last.
 *
 * Test files read its URL with `inject("postgresUrl")`; `postgres.ts` beside this file makes databases on it.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { TestProject } from "vitest/node"
import * as PgServer from "../../src/testing/PgServer.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** The superuser's URL of the shared server. */
    readonly postgresUrl: string
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const scope = Effect.runSync(Scope.make())
  const server = await Effect.runPromise(PgServer.make({ maxConnections: 200 }).pipe(Scope.provide(scope)))
  project.provide("postgresUrl", Redacted.value(server.superuserUrl))
  return () => Effect.runPromise(Scope.close(scope, Exit.void))
}
