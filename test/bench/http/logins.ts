/** How a server's sessions are made. */
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
import type { Server } from "./processes.ts"

/** Makes a session for each of these principals, and tells the cookies. */
export type Sessions = (
  server: Server,
  principals: ReadonlyArray<string>,
  /** Default: half an hour, or what the server was started with. */
  idleMillis?: number
) => Promise<ReadonlyArray<string>>

/** What somebody gets from a login over HTTP. */
const logIn = async (port: number, path: string, username: string) => {
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

export const over =
  (path: string): Sessions =>
  async ({ port }, principals) => {
    const cookies: Array<string> = []
    for (let from = 0; from < principals.length; from += 50) {
      const some = principals.slice(from, from + 50)
      cookies.push(...(await Promise.all(some.map((name) => logIn(port, path, name)))))
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
export const created: Sessions = async ({ port, storeUrl }, principals, idleMillis = 1_800_000) => {
  await ready(port)
  const url = Redacted.make(storeUrl)
  const layer = storeUrl.startsWith("redis") ? RedisSessionStore.layer({ url }) : PgSessionStore.layer({ url })
  const one = (store: SessionStore["Service"]) => (principal: string) => {
    const token = SessionToken.make()
    const login = store.create({
      token: SessionToken.hash(token),
      principal,
      data: {},
      dataVersion: 1,
      device: { userAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101", ip: "192.0.2.7" },
      idleTimeout: Duration.millis(idleMillis),
      absoluteTimeout: Duration.hours(12),
      renewEvery: Duration.hours(1),
      maxPerPrincipal: 5
    })
    return Effect.as(login, `${cookieName(`http://127.0.0.1:${port}`)}=${Redacted.value(token)}`)
  }
  return Effect.runPromise(
    Effect.scoped(
      Effect.flatMap(Layer.build(layer), (context) =>
        Effect.forEach(principals, one(Context.get(context, SessionStore)), { concurrency: 64 })
      )
    )
  )
}
