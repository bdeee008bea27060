/** What the benchmarks are to reach, and whether they do: `npm run bench` ends with this table. */
import type { Figure, Results } from "./record.ts"

export interface Goal {
  readonly figure: string
  readonly bench: string
  /** The name of the figure in the benchmark's results. */
  readonly name: string
  readonly goal: number
  /** Whether more is worse. */
  readonly atMost: boolean
  readonly digits: number
}

const most = (figure: string, bench: string, name: string, goal: number, digits = 2): Goal => ({
  figure,
  bench,
  name,
  goal,
  atMost: true,
  digits
})
const least = (figure: string, bench: string, name: string, goal: number): Goal => ({
  figure,
  bench,
  name,
  goal,
  atMost: false,
  digits: 2
})

const peers = ["express", "fastify"]
const servers = ["holdfast", "service", "holdfast-redis", "service-redis"]
const mistakes = ["lost", "resurrected", "revoked", "expired", "wrongPrincipal"]

/** Ratios of processor time are by request, with 64 requests in flight. */
export const goals: ReadonlyArray<Goal> = [
  // What takes 1/0.95 of the time is served at 0.95 of the rate.
  most("middleware unused, to the call without: processor time", "http", "api-unused to api, 64: cpu", 1 / 0.95),
  most("session read, to the call without: processor time", "http", "api-read to api, 64: cpu", 1 / 0.6),
  most(
    "session read of an answer up to two seconds old, to the call without: processor time",
    "http",
    "api-stale to api, 64: cpu",
    1 / 0.85
  ),
  most("`GET /health/live`, to an `HttpApi` call: processor time", "http", "live to api, 64: cpu", 1.5),
  most("`GET /session`, to an `HttpApi` call: processor time", "http", "session to api, 64: cpu", 2.2),
  least("`GET /session` a second, to express with connect-pg-simple", "http", "session to express-read, 64: rate", 10),
  least("`GET /session` a second, to fastify with connect-pg-simple", "http", "session to fastify-read, 64: rate", 4),
  ...peers.flatMap((peer) =>
    ["write", "login"].map((call) =>
      least(`${call} a second, to ${peer}`, "http", `api-${call} to ${peer}-${call}, 64: rate`, 1)
    )
  ),
  most("statements for a session read", "http", "api-read, 64: statements", 0.05, 3),
  ...servers.flatMap((server) =>
    mistakes.map((mistake) => most(`mistakes of ${server}: ${mistake}`, "http", `${server}: ${mistake}`, 0, 0))
  ),
  most(
    "load among ten million sessions, to ten thousand: median",
    "sessionsMany",
    "p50, many to few, nothing remembered",
    1.2
  ),
  least("unseen sessions a second, to connect-pg-simple", "sessions", "unseen to connect-pg-simple", 12),
  least("unseen sessions a second, to connect-redis", "sessionsRedis", "unseen to connect-redis", 1.5),
  most("bytes a session in Redis, to connect-redis", "sessionsRedis", "bytes to connect-redis", 2),
  most("list of 10,000 sessions in PostgreSQL, ms", "sessions", "list of 10,000, ms", 100, 0),
  most("list of 10,000 sessions in Redis, ms", "sessionsRedis", "list of 10,000, ms", 100, 0)
]

export const text = ({ least, median, most }: Figure, digits: number) => {
  const [middle, low, high] = [median, least, most].map((value) =>
    value >= 1000 ? Math.round(value).toLocaleString("en-US") : value.toFixed(digits)
  )
  return low === high ? `${middle}` : `${middle} (${low}–${high})`
}

/** Whether the median is what it should be, and by how much it is not. */
const verdict = ({ atMost, goal }: Goal, { median }: Figure) => {
  if (atMost ? median <= goal : median >= goal) return "reached"
  if (goal === 0) return `${median} too many`
  return atMost ? `${(median / goal).toFixed(1)} times too much` : `${Math.round((median / goal) * 100)} % of it`
}

/** A row for each goal. Goals of 0 that are all reached stand in one row. */
export const rows = (results: Results) => {
  const figureOf = ({ bench, name }: Goal) => results[bench]?.figures[name]
  const mistakes = goals.filter(({ goal }) => goal === 0)
  const allRight = mistakes.every((goal) => figureOf(goal)?.median === 0)
  const others = goals.filter(({ goal }) => goal !== 0 || !allRight)
  const row = (goal: Goal) => {
    const figure = figureOf(goal)
    return {
      figure: goal.figure,
      goal: `${goal.atMost ? "≤" : "≥"} ${Number(goal.goal.toFixed(2))}`,
      measured: figure === undefined ? "not measured" : text(figure, goal.digits),
      verdict: figure === undefined ? "unknown" : verdict(goal, figure)
    }
  }
  return [
    ...others.map(row),
    ...(allRight
      ? [{ figure: "mistakes of Holdfast, of every kind", goal: "0", measured: "0", verdict: "reached" }]
      : [])
  ]
}
