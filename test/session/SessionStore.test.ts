import * as SessionStoreLaws from "../../src/testing/SessionStoreLaws.ts"
import { memory, postgres, redis } from "../support/storeClocks.ts"

SessionStoreLaws.run(memory, { name: "MemorySessionStore", clock: "test" })

SessionStoreLaws.run(
  memory,
  { name: "MemorySessionStore, suspended wherever it can be", clock: "test" },
  { steps: [3, 5, 8, 13, 21] }
)

SessionStoreLaws.run(postgres(), { name: "PgSessionStore", clock: "server" })

SessionStoreLaws.run(redis(), { name: "RedisSessionStore", clock: "server" })
