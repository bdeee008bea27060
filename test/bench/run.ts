/**
 * `npm run bench`, or `npm run bench -- connections` for one of them. Each file says what it measures and what it does not.
 */
import { rows } from "./goals.ts"
import { read } from "./record.ts"

const all: Readonly<Record<string, () => Promise<{ readonly run: () => Promise<void> }>>> = {
  http: () => import("./http.ts"),
  primitives: () => import("./primitives.ts"),
  observing: () => import("./observing.ts"),
  connections: () => import("./connections.ts"),
  roles: () => import("./roles.ts"),
  sessions: () => import("./sessions.ts"),
  sessionsRedis: () => import("./sessionsRedis.ts"),
  sessionsEncrypted: () => import("./sessionsEncrypted.ts"),
  sessionsMemory: () => import("./sessionsMemory.ts"),
  sessionsAtOnce: () => import("./sessionsAtOnce.ts"),
  sessionsMany: () => import("./sessionsMany.ts"),
  pruning: () => import("./pruning.ts"),
  results: () => import("./results.ts"),
  queries: () => import("./queries.ts"),
  queriesClosing: () => import("./queriesClosing.ts"),
  queriesMemory: () => import("./queriesMemory.ts"),
  shared: () => import("./shared.ts"),
  functions: () => import("./functions.ts"),
  clientSessions: () => import("./clientSessions.ts"),
  isolation: () => import("./isolation.ts"),
  engines: () => import("./engines.ts"),
  snowflake: () => import("./snowflake.ts"),
  attacks: () => import("./attacks.ts"),
  sandbox: () => import("./sandbox.ts"),
  console: () => import("./console.ts")
}

/** Names come before the options of the benchmarks. */
const args = process.argv.slice(2)
const options = args.findIndex((arg) => arg.startsWith("--"))
const wanted = options === -1 ? args : args.slice(0, options)
for (const [name, load] of Object.entries(all)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue
  console.log(`\n# ${name}`)
  await (await load()).run()
}

console.log("\n# goals")
console.table(rows(read()))
