/**
 * One real PostgreSQL server and one real Redis server for the whole test run: started before the first test file,
 * side by side, and stopped after the last.
 *
 * Test files read their URLs with `inject("postgresUrl")` and `inject("redisUrl")`; `postgres.ts` and `redis.ts` beside
 * this file make databases and key prefixes on them. `HOLDFAST_TEST_REDIS_URL` and
 * `HOLDFAST_TEST_POSTGRES_URL` (of a superuser) name servers of your own instead.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { TestProject } from "vitest/node"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as TestRedis from "../../src/testing/TestRedis.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** The superuser's URL of the shared server. */
    readonly postgresUrl: string
    /** The URL of the shared Redis server. */
    readonly redisUrl: string
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const scope = Effect.runSync(Scope.make())
  const close = () => Effect.runPromise(Scope.close(scope, Exit.void))
  const given = <E>(name: string, make: Effect.Effect<Redacted.Redacted, E, Scope.Scope>) =>
    process.env[name] ? Effect.succeed(process.env[name]) : Effect.map(make, Redacted.value)
  const postgres = Effect.map(TestPostgres.make({ maxConnections: 200 }), ({ superuserUrl }) => superuserUrl)
  const redis = Effect.map(TestRedis.make(), ({ url }) => url)
  const servers = Effect.all([given("HOLDFAST_TEST_POSTGRES_URL", postgres), given("HOLDFAST_TEST_REDIS_URL", redis)], {
    concurrency: "unbounded"
  })
  const [postgresUrl, redisUrl] = await Effect.runPromise(Scope.provide(servers, scope)).catch(
    async (cause: unknown) => {
      await close()
      throw cause
    }
  )
  project.provide("postgresUrl", postgresUrl)
  project.provide("redisUrl", redisUrl)
  return close
}
