/**
 * Which single faults of the engines the simulation finds by itself, and with how many seeds. Each is one edit of a copy of the
 * sources. `node test/testing/mutations.ts [--seconds 8] [--from 0] [--to 30]` prints a line for each.
 */
import { spawnSync } from "node:child_process"
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { parseArgs } from "node:util"

type Mutation = readonly [scenario: "pools" | "queries" | "sessions", file: string, from: string, to: string]

const memory = "session/MemorySessionStore.ts"
const acts = "session/internal/SessionActs.ts"
const reading = "session/internal/SessionReading.ts"
const registry = "query/QueryRegistry.ts"
const ending = "query/internal/QueryRegistryOutcome.ts"
const entry = "query/internal/QueryRegistryEntry.ts"
const pool = "connection/ConnectionPool.ts"
const backend = "connection/internal/ConnectionPoolBackend.ts"
const backends = "connection/internal/ConnectionPoolBackends.ts"
const permits = "lifetime/FairSemaphore.ts"

const mutations: ReadonlyArray<Mutation> = [
  ["sessions", memory, "if (held.version !== version) return because(new SessionConflict())", ""],
  [
    "sessions",
    memory,
    "if (held.endedAt !== undefined) return because(held.isExpired ? new SessionExpired() : new SessionRevoked())",
    ""
  ],
  ["sessions", memory, "killTokens(held)\n      Object.assign", "Object.assign"],
  ["sessions", memory, "killTokens(presented.session)", ""],
  [
    "sessions",
    memory,
    "const displaced = makeRoom(principal, authentication, now, held)",
    "const displaced: ReadonlyArray<SessionId.SessionId> = []"
  ],
  ["sessions", memory, "Math.max(limits.maxPerPrincipal - 1, 0)", "Math.max(limits.maxPerPrincipal, 0)"],
  ["sessions", memory, "if (held.principal === principal && !isLive(held, now)) finish(held, now)", "void held"],
  ["sessions", memory, "held.isExpired = !isLive(held, now)", "held.isExpired = false"],
  ["sessions", memory, "if (token === undefined || now >= token.validUntil)", "if (token === undefined)"],
  [
    "sessions",
    memory,
    "if (token.session.lastSeenAt + token.session.touchInterval < now) token.session.lastSeenAt = now",
    ""
  ],
  ["sessions", memory, "held.principal === principal && held.id !== options?.except", "held.principal === principal"],
  ["sessions", memory, "if ((token.successor ?? next) !== next) return because(new SessionSuperseded())", ""],
  [
    "sessions",
    "session/internal/MemorySession.ts",
    "now < held.expiresAt && now < held.lastSeenAt",
    "now < held.lastSeenAt"
  ],
  ["sessions", "session/Sessions.ts", "Effect.repeat(held.poll, Schedule", "Effect.repeat(Effect.void, Schedule"],
  ["sessions", acts, "if (known.record.id !== read.session) return yield* conflict", ""],
  ["sessions", acts, 'on.state = { _tag: "Ended", error: revoked }\n      return onEnd', "return onEnd"],
  ["sessions", acts, 'yield* end(known, "another login")', "yield* Effect.void"],
  ["sessions", reading, 'if (this.state._tag !== "Unloaded") return Effect.succeed(false)', ""],
  ["queries", registry, "keys.keep(request, entry, steady())", ""],
  ["queries", registry, "request && sharing === undefined ? keys.answer(request, steady()) : undefined", "undefined"],
  ["queries", ending, 'isCanceled ? "Canceled" : "Failed"', '"Failed"'],
  ["queries", registry, "        owner,\n        deadline:", "        owner: undefined,\n        deadline:"],
  ["queries", registry, "Duration.min(deadline, maxDeadline),\n        deadlines", "maxDeadline,\n        deadlines"],
  [
    "queries",
    registry,
    "        place,\n        onState",
    "        place: { ...place, leave: () => undefined },\n        onState"
  ],
  [
    "queries",
    registry,
    "        onReleased: (outcome) => tidy(entry, outcome),",
    "        onReleased: () => Effect.void,"
  ],
  ["queries", registry, "Effect.andThen(entry.end(), outcome(entry))", "outcome(entry)"],
  ["queries", registry, "    closing = true\n", ""],
  ["queries", ending, "{ rowCount: outcome.value.rowCount, bytes: entry.bytes }", "{ bytes: entry.bytes }"],
  ["queries", entry, "transitions: [...transitions, { state, at }]", "transitions: [{ state, at }]"],
  ["queries", "lifetime/internal/Admission.ts", "        leave()\n", ""],
  ["pools", pool, "Effect.onError(lent, (cause) => Scope.close(scope, Exit.failCause(cause)))", "lent"],
  ["pools", pool, "if (Deferred.isDoneUnsafe(closed)) return fail(new Closed({ source: source.name }))", ""],
  ["pools", permits, "if (next !== undefined) grant(next)", ""],
  ["pools", permits, "    this.toEnd(turn)\n", ""],
  ["pools", backends, "      waiters.leave(waiter)\n", ""],
  ["pools", backends, "objection(pooled) === undefined ? reset(pooled) : Effect.void", "Effect.void"],
  ["pools", backends, "return zombies.bury(pooled.connection)", "return Effect.void"],
  ["pools", backends, "now() - pooled.heardAt < checkAfter", "true"],
  ["pools", backends, 'if (began !== generation) pooled.retirement = "evicted"', ""],
  ["pools", backends, "waiters.size === 0 && suspensions === 0 && !isClosed", "waiters.size === 0 && !isClosed"],
  ["pools", backends, "      if (Exit.isSuccess(exit)) pump()\n", ""],
  ["pools", backends, "{ uninterruptible: true }", "{}"],
  ["pools", backend, 'if (pooled.connection.state() !== "usable") return "broken"', ""],
  ["pools", backend, "          pooled.abandoned = true\n", ""],
  [
    "pools",
    "connection/internal/ConnectionPoolWaiters.ts",
    "want === anyRole || want === role",
    "want === anyRole || true"
  ]
]

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "8" },
    from: { type: "string", default: "0" },
    to: { type: "string", default: String(mutations.length) }
  }
})
const checkout = Path.join(import.meta.dirname, "../..")
const directory = mkdtempSync(Path.join(tmpdir(), "holdfast-mutations-"))
try {
  for (const name of ["src", "test/testing"])
    cpSync(Path.join(checkout, name), Path.join(directory, name), { recursive: true })
  cpSync(Path.join(checkout, "package.json"), Path.join(directory, "package.json"))
  symlinkSync(Path.join(checkout, "node_modules"), Path.join(directory, "node_modules"))
  let found = 0
  const chosen = mutations.slice(Number(values.from), Number(values.to))
  for (const [index, [scenario, file, from, to]] of chosen.entries()) {
    const path = Path.join(directory, "src", file)
    const whole = readFileSync(path, "utf8")
    const places = whole.split(from).length - 1
    if (places !== 1) throw new Error(`${file} has ${places} places like this one, not one: ${from}`)
    writeFileSync(
      path,
      whole.replace(from, () => to)
    )
    const args = [
      "test/testing/simulate.ts",
      "--scenario",
      scenario,
      "--seeds",
      "1000000",
      "--minutes",
      String(Number(values.seconds) / 60),
      "--most",
      "1",
      "--workers",
      "1"
    ]
    const { status, stderr, stdout } = spawnSync(process.execPath, args, {
      cwd: directory,
      encoding: "utf8",
      timeout: 60_000
    })
    writeFileSync(path, whole)
    const [, seeds = "?"] = /: (\d+) seeds,/.exec(stdout) ?? []
    const [, law = ""] = /breaks a law: (.*)/.exec(stdout) ?? []
    const isFound = status === 1 && law !== ""
    if (isFound) found++
    const told = isFound
      ? `found with ${seeds} seeds: ${law}`
      : status === 0
        ? `not found with ${seeds} seeds`
        : `did not run: ${stderr.slice(0, 300)}`
    console.log(
      `${Number(values.from) + index} ${file} \`${from.replaceAll(/\s+/g, " ")}\` → \`${to.replaceAll(/\s+/g, " ")}\`: ${told}`
    )
  }
  console.log(`${found} of ${chosen.length} found`)
} finally {
  rmSync(directory, { recursive: true, force: true })
}
