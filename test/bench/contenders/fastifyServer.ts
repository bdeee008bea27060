/** Fastify with @fastify/session: the same work as `effectServer.ts`, as its documentation shows it. */
import { setTimeout } from "node:timers/promises"
import { idleMillis, initial, listening, port, slowMillis } from "../http/work.ts"
import { openStore, owned, require } from "./stores.ts"

interface Session {
  principal?: string
  data?: typeof initial
  readonly sessionId: string
  regenerate(): Promise<void>
  save(): Promise<void>
  destroy(): Promise<void>
}

interface Request {
  readonly session: Session
  readonly body: { readonly username: string }
}

interface Reply {
  code(status: number): Reply
}

type Handler = (request: Request, reply: Reply) => unknown

const fastify = require("fastify")()
const sessionPlugin = require("@fastify/session")

const store = await openStore(require("express-session"))
const sessions = owned(store)

/** Only for who is logged in. */
const mine =
  (handler: Handler): Handler =>
  (request, reply) => {
    if (request.session.principal !== undefined) return handler(request, reply)
    reply.code(401)
    return { error: "log in first" }
  }

const write = async ({ session }: Request) => {
  const data = session.data ?? initial
  session.data = { ...data, count: data.count + 1 }
  return { count: session.data.count }
}

fastify.register(require("@fastify/cookie"))
fastify.register(sessionPlugin, {
  store,
  secret: "a secret of the benchmark that is long enough",
  saveUninitialized: false,
  cookie: { maxAge: idleMillis, secure: false, sameSite: "lax" }
})
const get = (path: string, handler: Handler) =>
  fastify.get(path, async (request: Request, reply: Reply) => handler(request, reply))
const post = (path: string, handler: Handler) =>
  fastify.post(path, async (request: Request, reply: Reply) => handler(request, reply))

fastify.register(async () => {
  get(
    "/read",
    mine(({ session }) => ({ principal: session.principal }))
  )
  post("/write", mine(write))
  post("/login", async (request) => {
    const { username } = request.body
    await request.session.regenerate()
    request.session.principal = username
    request.session.data = initial
    await request.session.save()
    sessions.add(username, request.session.sessionId)
    return { principal: username }
  })
  post(
    "/slow",
    mine(async (request) => {
      await setTimeout(slowMillis)
      return write(request)
    })
  )
  post("/logout", async ({ session }) => {
    await session.destroy()
    return { principal: null }
  })
  post(
    "/revoke",
    mine(async ({ session }) => {
      await sessions.revokeOthers(session.principal ?? "", session.sessionId)
      return { principal: null }
    })
  )
})

await fastify.listen({ port, host: "127.0.0.1" })
listening(() => void fastify.close())
