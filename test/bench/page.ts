/**
 * Makes the tables of `docs/benchmarks.md` that come from `results.json`, between lines like `<!-- results: NAME -->` and
 * `<!-- end of results -->`: `node test/bench/page.ts`. A test sees to it that both agree.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { format, resolveConfig } from "prettier"
import { rows, text } from "./goals.ts"
import { read, type Results } from "./record.ts"

export const page = join(import.meta.dirname, "../../docs/benchmarks.md")

const table = (head: ReadonlyArray<string>, body: ReadonlyArray<ReadonlyArray<string>>) =>
  [head, head.map(() => "---"), ...body].map((row) => `| ${row.join(" | ")} |`).join("\n")

const httpCalls: Readonly<Record<string, string>> = {
  node: "bare `node:http`",
  router: "a route of `HttpRouter`",
  api: "a call of `HttpApi`",
  "router-unused": "the route with the middleware, unused",
  "api-unused": "the call with the middleware, unused",
  "router-read": "the route, a session read",
  "api-read": "the call, a session read",
  "api-write": "the call, a write",
  "api-login": "the call, a login without a hash",
  live: "the service, `GET /health/live`",
  session: "the service, `GET /session`",
  patch: "the service, `PATCH /session/data`",
  "express-read": "express, a session read",
  "express-write": "express, a write",
  "express-login": "express, a login",
  "fastify-read": "fastify, a session read",
  "fastify-write": "fastify, a write",
  "fastify-login": "fastify, a login"
}

/** The tables by name. */
const tables: Readonly<Record<string, (results: Results) => string>> = {
  http: (results) => {
    const figures = results["http"]?.figures ?? {}
    return table(
      ["64 in flight, PostgreSQL", "µs of processor", "a second", "p50 / p99, ms", "statements", "bytes of WAL"],
      Object.entries(httpCalls).flatMap(([call, name]) => {
        const of = (what: string) => figures[`${call}, 64: ${what}`]
        const [cpu, rate, p50, p99, statements, wal] = ["cpu", "rate", "p50", "p99", "statements", "wal"].map(of)
        if (!cpu || !rate || !p50 || !p99 || !statements || !wal) return []
        const latencies = `${p50.median.toFixed(1)} / ${p99.median.toFixed(1)}`
        return [[name, text(cpu, 0), text(rate, 0), latencies, statements.median.toFixed(2), wal.median.toFixed(0)]]
      })
    )
  },
  mistakes: (results) => {
    const figures = results["http"]?.figures ?? {}
    const kinds = ["lost", "resurrected", "revoked", "expired", "wrongPrincipal"]
    const servers = ["holdfast", "service", "express", "fastify"].flatMap((name) => [name, `${name}-redis`])
    return table(
      ["of 40 sessions each (*lost*: of 320 changes)", "lost", "resurrected", "revoked", "expired", "wrong principal"],
      servers.map((server) => [
        server.replace("-redis", ", Redis"),
        ...kinds.map((kind) => figures[`${server}: ${kind}`]?.median.toString() ?? "not measured")
      ])
    )
  },
  size: (results) => {
    const [many, redis] = [results["sessionsMany"]?.figures ?? {}, results["sessionsRedis"]?.figures ?? {}]
    const rows = [
      ["PostgreSQL, tables", many["bytes in tables"]],
      ["PostgreSQL, indexes", many["bytes in indexes"]],
      ["PostgreSQL, WAL of a login", many["bytes of WAL by login"]],
      ["Redis", redis["bytes a session"]],
      ["Redis, connect-redis", redis["bytes a session, connect-redis"]]
    ] as const
    return table(
      ["a session takes", "bytes"],
      rows.map(([name, figure]) => [name, figure === undefined ? "not measured" : text(figure, 0)])
    )
  },
  goals: (results) =>
    table(
      ["figure", "goal", "measured", ""],
      rows(results).map(({ figure, goal, measured, verdict }) => [figure, goal, measured, verdict])
    )
}

/** The page with its tables made anew. */
export const render = async (markdown: string, results: Results) => {
  const made = markdown.replace(
    /(<!-- results: (\w+) -->\n)[^]*?(<!-- end of results -->)/g,
    (_, begin: string, name: string, end: string) => {
      const make = tables[name]
      if (make === undefined) throw new Error(`No table is called ${name}.`)
      return `${begin}\n${make(results)}\n\n${end}`
    }
  )
  return format(made, { ...(await resolveConfig(page)), parser: "markdown" })
}

if (import.meta.main) writeFileSync(page, await render(readFileSync(page, "utf8"), read()))
