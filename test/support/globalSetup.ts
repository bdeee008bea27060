/**
 * One real PostgreSQL server and one real Redis server for the whole test run: started before the first test file,
 * side by side, and stopped after the last.
 *
 * Their files lie in memory where there is much room for them: half of what PostgreSQL does in a run is to make and remove the
 * files of databases, which a disk's file system is slow at. `TMPDIR` names another place.
 *
 * Test files read their URLs with `inject("postgresUrl")` and `inject("redisUrl")`; `postgres.ts` and `redis.ts` beside
 * this file make databases and key prefixes on them. `HOLDFAST_TEST_REDIS_URL` and
 * `HOLDFAST_TEST_POSTGRES_URL` (of a superuser) name servers of your own instead.
 */
import { statfsSync } from "node:fs"
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

const memory = "/dev/shm"
/** So much that no run needs a half of it. */
const roomNeeded = 8 * 2 ** 30

const hasRoom = (directory: string) => {
  try {
    const { bavail, bsize } = statfsSync(directory)
    return bavail * bsize > roomNeeded
  } catch {
    return false
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  // Also for what the tests themselves write.
  if (process.env.TMPDIR === undefined && hasRoom(memory)) process.env.TMPDIR = memory
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
