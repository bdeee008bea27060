/**
 * Which single faults of the engines the simulation finds by itself, and with how many seeds. Each is one edit of a copy of the
 * sources. `node test/testing/mutations.ts [--seconds 8] [--from 0] [--to 30]` prints a line for each.
 */
import { spawnSync } from "node:child_process"
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { parseArgs } from "node:util"

type Mutation = readonly [
  what: string,
  scenario: "pools" | "queries" | "sessions",
  file: string,
  from: string,
  to: string
]

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
  [
    "a change takes no notice of the version",
    "sessions",
    memory,
    "if (held.version !== version) return because(new SessionConflict())",
    ""
  ],
  [
    "a session that was ended is live",
    "sessions",
    memory,
    "if (held.endedAt !== undefined) return because(held.isExpired ? new SessionExpired() : new SessionRevoked())",
    ""
  ],
  ["a login leaves the old tokens alive", "sessions", memory, "killTokens(held)\n      Object.assign", "Object.assign"],
  ["a rotation leaves the old token alive", "sessions", memory, "killTokens(presented.session)", ""],
  [
    "a login in a session makes no room",
    "sessions",
    memory,
    "const displaced = makeRoom(principal, authentication, now, held)",
    "const displaced: ReadonlyArray<SessionId.SessionId> = []"
  ],
  [
    "one session more than the cap is allowed",
    "sessions",
    memory,
    "Math.max(limits.maxPerPrincipal - 1, 0)",
    "Math.max(limits.maxPerPrincipal, 0)"
  ],
  [
    "a login does not write down that another session is over",
    "sessions",
    memory,
    "if (held.principal === principal && !isLive(held, now)) finish(held, now)",
    "void held"
  ],
  [
    "an expired session that is ended counts as revoked",
    "sessions",
    memory,
    "held.isExpired = !isLive(held, now)",
    "held.isExpired = false"
  ],
  [
    "a token that was replaced is good for ever",
    "sessions",
    memory,
    "if (token === undefined || now >= token.validUntil)",
    "if (token === undefined)"
  ],
  [
    "a visit is not noted",
    "sessions",
    memory,
    "if (token.session.lastSeenAt + token.session.touchInterval < now) token.session.lastSeenAt = now",
    ""
  ],
  [
    "an end of all other sessions ends one's own, too",
    "sessions",
    memory,
    "held.principal === principal && held.id !== options?.except",
    "held.principal === principal"
  ],
  [
    "a token is renewed twice, each time into another",
    "sessions",
    memory,
    "if ((token.successor ?? next) !== next) return because(new SessionSuperseded())",
    ""
  ],
  [
    "the absolute timeout does not count",
    "sessions",
    "session/internal/MemorySession.ts",
    "now < held.expiresAt && now < held.lastSeenAt",
    "now < held.lastSeenAt"
  ],
  [
    "an instance never asks for ends that it was not told of",
    "sessions",
    "session/Sessions.ts",
    "Effect.repeat(held.poll, Schedule",
    "Effect.repeat(Effect.void, Schedule"
  ],
  [
    "a change goes into the session that took the place of the one it read",
    "sessions",
    acts,
    "if (known.record.id !== read.session) return yield* conflict",
    ""
  ],
  [
    "a handle does not know that it has ended its session",
    "sessions",
    acts,
    'on.state = { _tag: "Ended", error: revoked }\n      return onEnd',
    "return onEnd"
  ],
  [
    "a login of somebody else leaves the session before it alive",
    "sessions",
    acts,
    'yield* end(known, "another login")',
    "yield* Effect.void"
  ],
  [
    "a handle loads its session once for each who asks",
    "sessions",
    reading,
    'if (this.state._tag !== "Unloaded") return Effect.succeed(false)',
    ""
  ],
  ["a key of a query is not kept", "queries", registry, "keys.keep(request, entry, steady())", ""],
  [
    "a key of a query is not looked up",
    "queries",
    registry,
    "request && sharing === undefined ? keys.answer(request, steady()) : undefined",
    "undefined"
  ],
  ["a query that was cancelled counts as failed", "queries", ending, 'isCanceled ? "Canceled" : "Failed"', '"Failed"'],
  [
    "a query does not belong to its session",
    "queries",
    registry,
    "        owner,\n        deadline:",
    "        owner: undefined,\n        deadline:"
  ],
  [
    "a deadline does not count",
    "queries",
    registry,
    "Duration.min(deadline, maxDeadline),\n        deadlines",
    "maxDeadline,\n        deadlines"
  ],
  [
    "a query that is over keeps its place",
    "queries",
    registry,
    "        place,\n        onState",
    "        place: { ...place, leave: () => undefined },\n        onState"
  ],
  [
    "rows of a query that failed stay, and those of others are not counted",
    "queries",
    registry,
    "        onReleased: (outcome) => tidy(entry, outcome),",
    "        onReleased: () => Effect.void,"
  ],
  [
    "a cancel does not wait for the end",
    "queries",
    registry,
    "Effect.andThen(entry.end(), outcome(entry))",
    "outcome(entry)"
  ],
  ["queries are taken in while the registry closes", "queries", registry, "    closing = true\n", ""],
  [
    "the count of rows is lost",
    "queries",
    ending,
    "{ rowCount: outcome.value.rowCount, bytes: entry.bytes }",
    "{ bytes: entry.bytes }"
  ],
  [
    "a history has the last state alone",
    "queries",
    entry,
    "transitions: [...transitions, { state, at }]",
    "transitions: [{ state, at }]"
  ],
  ["a statement that is over keeps its permit", "queries", "lifetime/internal/Admission.ts", "        leave()\n", ""],
  [
    "a lease is not given back where its borrower is interrupted before it has it",
    "pools",
    pool,
    "Effect.onError(lent, (cause) => Scope.close(scope, Exit.failCause(cause)))",
    "lent"
  ],
  [
    "a borrower that was handed a connection while the pool closes keeps it",
    "pools",
    pool,
    "if (Deferred.isDoneUnsafe(closed)) return fail(new Closed({ source: source.name }))",
    ""
  ],
  [
    "a permit that is given back is given to nobody who waits",
    "pools",
    permits,
    "if (next !== undefined) grant(next)",
    ""
  ],
  ["keys do not take turns", "pools", permits, "    this.toEnd(turn)\n", ""],
  ["a borrower that gives up stays in the queue", "pools", backends, "      waiters.leave(waiter)\n", ""],
  [
    "a connection is not reset",
    "pools",
    backends,
    "objection(pooled) === undefined ? reset(pooled) : Effect.void",
    "Effect.void"
  ],
  [
    "nobody watches a connection that was lost until the server is rid of it",
    "pools",
    backends,
    "return zombies.bury(pooled.connection)",
    "return Effect.void"
  ],
  ["what was not heard from is lent unasked", "pools", backends, "now() - pooled.heardAt < checkAfter", "true"],
  [
    "a connection that was being opened is not evicted",
    "pools",
    backends,
    'if (began !== generation) pooled.retirement = "evicted"',
    ""
  ],
  [
    "a pool that is suspended lends what is idle",
    "pools",
    backends,
    "if (isClosed || suspensions > 0 || waiters.size === 0) return",
    "if (isClosed || waiters.size === 0) return"
  ],
  [
    "a place that becomes free is used by nobody who waits",
    "pools",
    backends,
    "      if (Exit.isSuccess(exit)) pump()\n",
    ""
  ],
  [
    "work that was begun is dropped where the pool closes before it has started",
    "pools",
    backends,
    "{ uninterruptible: true }",
    "{}"
  ],
  [
    "a connection that is broken is idle again",
    "pools",
    backend,
    'if (pooled.connection.state() !== "usable") return "broken"',
    ""
  ],
  [
    "a connection that could not be reset is closed as if the server knew",
    "pools",
    backend,
    "          pooled.abandoned = true\n",
    ""
  ],
  [
    "a connection is lent to whatever role",
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
  for (const [index, [what, scenario, file, from, to]] of chosen.entries()) {
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
    const [, played = "?"] = /: (\d+) seeds,/.exec(stdout) ?? []
    const [, seed = "", law = ""] = /Seed (\d+) of "\w+" breaks a law: (.*)/.exec(stdout) ?? []
    const isFound = status === 1 && law !== ""
    if (isFound) found++
    const told = isFound
      ? `found by seed ${seed}: ${law}`
      : status === 0
        ? `not found with ${played} seeds`
        : `did not run: ${stderr.slice(0, 300)}`
    console.log(`${Number(values.from) + index} ${file}: ${what}: ${told}`)
  }
  console.log(`${found} of ${chosen.length} found`)
} finally {
  rmSync(directory, { recursive: true, force: true })
}
