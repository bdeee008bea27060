/** Whom `npm run bench -- http` compares, and with which calls. */
import { randomBytes } from "node:crypto"
import { setTimeout } from "node:timers/promises"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as PgSessionStore from "../../../src/postgres/PgSessionStore.ts"
import * as RedisSessionStore from "../../../src/redis/RedisSessionStore.ts"
import { SessionStore } from "../../../src/session/SessionStore.ts"
import * as SessionToken from "../../../src/session/SessionToken.ts"
import { cookieName } from "../../support/browser.ts"
import type { Call } from "./load.ts"
import type { Server, Start } from "./processes.ts"

/** What is asked of a server: which of its sessions' cookies, and what more. */
export type Ask = (cookies: ReadonlyArray<string>) => ReadonlyArray<Call>

export interface Contender {
  readonly start: Start
  /** Cookies of so many sessions, of the principals `user-0`, `user-1`, … */
  readonly sessions?: (server: Server, count: number) => Promise<ReadonlyArray<string>>
  readonly calls: Readonly<Record<string, Ask>>
}

/** What somebody gets from a login over HTTP. */
export const logIn = async (port: number, path: string, username: string) => {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", origin: `http://127.0.0.1:${port}` },
    body: JSON.stringify({ username })
  })
  await response.arrayBuffer()
  const cookie = response.headers.getSetCookie()[0]?.split(";")[0]
  if (response.status !== 200 || cookie === undefined) throw new Error(`Login at ${path}: ${response.status}`)
  return cookie
}

const loggedIn = (path: string) => async (server: Server, count: number) => {
  const cookies: Array<string> = []
  for (let from = 0; from < count; from += 50) {
    const some = Array.from({ length: Math.min(50, count - from) }, (_, index) => `user-${from + index}`)
    cookies.push(...(await Promise.all(some.map((name) => logIn(server.port, path, name)))))
  }
  return cookies
}

/** It listens before its tables are made. */
const ready = async (port: number) => {
  for (let tries = 0; tries < 600; tries++) {
    const { status } = await fetch(`http://127.0.0.1:${port}/health/ready`)
    if (status === 200) return
    await setTimeout(100)
  }
  throw new Error("The service is not ready after a minute.")
}

/** The service hashes passwords: its sessions come from the library's store, as its own logins would make them. */
const created = async ({ port, storeUrl }: Server, count: number) => {
  await ready(port)
  const url = Redacted.make(storeUrl)
  const layer = storeUrl.startsWith("redis") ? RedisSessionStore.layer({ url }) : PgSessionStore.layer({ url })
  const one = (store: SessionStore["Service"]) => (_: unknown, index: number) => {
    const token = SessionToken.make()
    const login = store.create({
      token: SessionToken.hash(token),
      principal: `user-${index}`,
      data: {},
      dataVersion: 1,
      device: { userAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101", ip: "192.0.2.7" },
      idleTimeout: Duration.minutes(30),
      absoluteTimeout: Duration.hours(12),
      renewEvery: Duration.hours(1),
      maxPerPrincipal: 5
    })
    return Effect.as(login, `${cookieName(`http://127.0.0.1:${port}`)}=${Redacted.value(token)}`)
  }
  return Effect.runPromise(
    Effect.scoped(
      Effect.flatMap(Layer.build(layer), (context) =>
        Effect.forEach(Array.from({ length: count }), one(Context.get(context, SessionStore)), { concurrency: 64 })
      )
    )
  )
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

const ours = (name: string, suffix: string) => ({
  [`${name}${suffix}-unused`]: getWith(`/${name}/unused`),
  [`${name}${suffix}-read`]: getWith(`/${name}/read`),
  [`${name}${suffix}-write`]: postWith(`/${name}/write`),
  [`${name}${suffix}-login`]: logins(`/${name}/login`)
})

const effect = (store: "postgres" | "redis", suffix = ""): Contender => ({
  start: { file: "effectServer.ts", store },
  sessions: loggedIn("/router/login"),
  calls: { ...ours("router", suffix), ...ours("api", suffix) }
})

export const password = "correct horse battery staple 7"

const service = (store: "postgres" | "redis", suffix = ""): Contender => ({
  start: {
    file: "../../../src/bin.ts",
    args: ["serve"],
    store,
    env: (port, storeUrl) => ({
      PORT: `${port}`,
      HOLDFAST_DEMO_PASSWORD: password,
      ...(store === "postgres" ? { DATABASE_URL: storeUrl } : { HOLDFAST_SESSION_STORE: "redis", REDIS_URL: storeUrl })
    })
  },
  sessions: created,
  calls: {
    [`live${suffix}`]: get("/health/live"),
    [`session${suffix}`]: getWith("/session"),
    [`patch${suffix}`]: (cookies) =>
      cookies.map((cookie, index) => ({ method: "PATCH", path: "/session/data", cookie, json: { count: index } }))
  }
})

/** Other libraries, with the same work in `test/bench/contenders`. */
const peer = (name: string, file: string, store: "postgres" | "redis"): Contender => ({
  start: { file: `../contenders/${file}`, store },
  sessions: loggedIn("/login"),
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
  service: service("postgres"),
  express: peer("express", "expressServer.ts", "postgres"),
  fastify: peer("fastify", "fastifyServer.ts", "postgres"),
  "holdfast-redis": effect("redis", "-redis"),
  "service-redis": service("redis", "-redis"),
  "express-redis": peer("express-redis", "expressServer.ts", "redis"),
  "fastify-redis": peer("fastify-redis", "fastifyServer.ts", "redis")
}
