/** Whom `npm run bench -- http` compares, and with which calls. */
import { randomBytes } from "node:crypto"
import type { Answer } from "./client.ts"
import type { Calls } from "./counters.ts"
import type { Call } from "./load.ts"
import { created, over, type Sessions } from "./logins.ts"
import type { Start } from "./processes.ts"

/** What is asked of a server: which of its sessions' cookies, and what more. */
export type Ask = (cookies: ReadonlyArray<string>) => ReadonlyArray<Call>

export interface Contender {
  readonly start: Start
  readonly sessions?: Sessions
  /** What its mistakes are counted with. */
  readonly checks?: Calls
  readonly calls: Readonly<Record<string, Ask>>
  /** How many of a call may be in flight. Default: as many as there are. */
  readonly most?: Readonly<Record<string, number>>
}

const get =
  (path: string): Ask =>
  () => [{ method: "GET", path }]
/** The same requests that a route with sessions gets, for one without. */
const getPlain =
  (path: string): Ask =>
  () =>
    Array.from({ length: 1_000 }, () => ({
      method: "GET",
      path,
      cookie: `holdfast-dev-3000=${randomBytes(32).toString("base64url")}`
    }))
const getWith =
  (path: string): Ask =>
  (cookies) =>
    cookies.map((cookie) => ({ method: "GET", path, cookie }))
const postWith =
  (path: string): Ask =>
  (cookies) =>
    cookies.map((cookie) => ({ method: "POST", path, cookie }))
/** Many users, so that nobody's sessions reach the limit. */
const logins =
  (path: string): Ask =>
  () =>
    Array.from({ length: 20_000 }, (_, index) => ({ method: "POST", path, json: { username: `login-${index}` } }))

const post = (path: string): Call => ({ method: "POST", path })
const countOf = ({ text }: Answer) => Number(/"count":(\d+)/.exec(text)?.[1])

const checks = (prefix: string): Calls => ({
  read: { method: "GET", path: `${prefix}/read` },
  logout: post(`${prefix}/logout`),
  revokeOthers: post(`${prefix}/revoke`),
  slow: [post(`${prefix}/slow`)],
  write: () => post(`${prefix}/write`),
  // The last write tells how many there were before.
  written: async (send) => countOf(await send(post(`${prefix}/write`))) - 1
})

const patch = (json: unknown): Call => ({ method: "PATCH", path: "/session/data", json })

const serviceChecks: Calls = {
  read: { method: "GET", path: "/session" },
  logout: post("/logout"),
  revokeOthers: { method: "DELETE", path: "/sessions" },
  slow: Array.from({ length: 8 }, (_, index) => patch({ [`slow${index}`]: index })),
  write: (index) => patch({ [`key${index}`]: index }),
  written: async (send) => ((await send({ method: "GET", path: "/session/data" })).text.match(/"key/g) ?? []).length
}

const ours = (name: string, suffix: string) => ({
  [`${name}${suffix}-unused`]: getWith(`/${name}/unused`),
  [`${name}${suffix}-read`]: getWith(`/${name}/read`),
  [`${name}${suffix}-write`]: postWith(`/${name}/write`),
  [`${name}${suffix}-login`]: logins(`/${name}/login`)
})

const effect = (store: "postgres" | "redis", suffix = ""): Contender => ({
  start: { file: "effectServer.ts", store },
  sessions: over("/router/login"),
  checks: checks("/router"),
  calls: { ...ours("router", suffix), ...ours("api", suffix) }
})

/** The same where an answer may be two seconds old. */
const stale: Contender = {
  start: { file: "effectServer.ts", store: "postgres", env: () => ({ BENCH_STALENESS: "2000" }) },
  sessions: over("/router/login"),
  calls: { "api-stale": getWith("/api/read") }
}

const password = "correct horse battery staple 7"

const service = (store: "postgres" | "redis", suffix = "", more: Readonly<Record<string, string>> = {}): Contender => ({
  start: {
    file: "../../../src/bin.ts",
    args: ["serve"],
    store,
    env: (port, storeUrl, databaseUrl) => ({
      PORT: `${port}`,
      HOLDFAST_DEMO_PASSWORD: password,
      DATABASE_URL: databaseUrl,
      ...more,
      ...(store === "redis" && { HOLDFAST_SESSION_STORE: "redis", REDIS_URL: storeUrl })
    })
  },
  sessions: created,
  checks: serviceChecks,
  // The service refuses more than a hundred that wait for a hash.
  most: { [`login${suffix}`]: 64 },
  calls: {
    [`live${suffix}`]: get("/health/live"),
    [`session${suffix}`]: getWith("/session"),
    [`login${suffix}`]: () => [{ method: "POST", path: "/login", json: { username: "demo", password } }],
    [`patch${suffix}`]: (cookies) =>
      Array.from({ length: 8 * cookies.length }, (_, index) => ({
        ...patch({ count: index }),
        cookie: cookies[index % cookies.length]
      }))
  }
})

/** Other libraries, with the same work in `test/bench/contenders`. */
const peer = (name: string, file: string, store: "postgres" | "redis"): Contender => ({
  start: { file: `../contenders/${file}`, store },
  sessions: over("/login"),
  checks: checks(""),
  calls: {
    [`${name}-read`]: getWith("/read"),
    [`${name}-write`]: postWith("/write"),
    [`${name}-login`]: logins("/login")
  }
})

export const contenders: Readonly<Record<string, Contender>> = {
  node: { start: { file: "nodeServer.ts", store: "none" }, calls: { node: getPlain("/") } },
  effect: {
    start: { file: "effectServer.ts", store: "none" },
    calls: { router: getPlain("/router/plain"), api: getPlain("/api/plain") }
  },
  holdfast: effect("postgres"),
  "holdfast-stale": stale,
  service: service("postgres"),
  // What an operator sees of requests: `npm run bench -- http --quick --only service-bare,service,service-watched,service-traced`.
  "service-bare": service("postgres", "-bare", { HOLDFAST_REQUEST_METRICS: "off", HOLDFAST_LOG_LEVEL: "none" }),
  "service-watched": service("postgres", "-watched", { HOLDFAST_ACCESS_LOG: "on" }),
  "service-traced": service("postgres", "-traced", {
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9",
    OTEL_SERVICE_NAME: "holdfast"
  }),
  express: peer("express", "expressServer.ts", "postgres"),
  fastify: peer("fastify", "fastifyServer.ts", "postgres"),
  "holdfast-redis": effect("redis", "-redis"),
  "service-redis": service("redis", "-redis"),
  "express-redis": peer("express-redis", "expressServer.ts", "redis"),
  "fastify-redis": peer("fastify-redis", "fastifyServer.ts", "redis")
}
