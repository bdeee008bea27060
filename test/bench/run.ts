/**
 * `npm run bench`, or `npm run bench -- connections` for one of them. Each file says what it measures and what it does not.
 */
const all: Readonly<Record<string, () => Promise<{ readonly run: () => Promise<void> }>>> = {
  primitives: () => import("./primitives.ts"),
  connections: () => import("./connections.ts"),
  roles: () => import("./roles.ts"),
  sessions: () => import("./sessions.ts"),
  sessionsRedis: () => import("./sessionsRedis.ts"),
  sessionsEncrypted: () => import("./sessionsEncrypted.ts"),
  sessionsMemory: () => import("./sessionsMemory.ts"),
  sessionsAtOnce: () => import("./sessionsAtOnce.ts"),
  pruning: () => import("./pruning.ts"),
  results: () => import("./results.ts"),
  queries: () => import("./queries.ts"),
  queriesClosing: () => import("./queriesClosing.ts"),
  queriesMemory: () => import("./queriesMemory.ts"),
  functions: () => import("./functions.ts"),
  clientSessions: () => import("./clientSessions.ts"),
  isolation: () => import("./isolation.ts"),
  attacks: () => import("./attacks.ts")
}

const wanted = process.argv.slice(2)
for (const [name, load] of Object.entries(all)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue
  console.log(`\n# ${name}`)
  await (await load()).run()
}
