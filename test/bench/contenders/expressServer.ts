/** Express with express-session: the same work as `effectServer.ts`, as its documentation shows it. */
import { setTimeout } from "node:timers/promises"
import { idleMillis, initial, listening, port, slowMillis } from "../http/work.ts"
import { openStore, owned, require } from "./stores.ts"

interface Session {
  principal?: string
  data?: typeof initial
  regenerate(done: (error: unknown) => void): void
  save(done: (error: unknown) => void): void
  destroy(done: (error: unknown) => void): void
}

interface Request {
  readonly session: Session
  readonly sessionID: string
  readonly body: { readonly username: string }
}

interface Response {
  json(body: unknown): void
  status(code: number): Response
}

type Handler = (request: Request, response: Response) => unknown

const express = require("express")
const session = require("express-session")

const store = await openStore(session)
const sessions = owned(store)
const called = (call: (done: (error: unknown) => void) => void) =>
  new Promise<void>((resolve, reject) => call((error) => (error ? reject(error as Error) : resolve())))

/** Only for who is logged in. */
const mine =
  (handler: Handler): Handler =>
  (request, response) =>
    request.session.principal === undefined
      ? response.status(401).json({ error: "log in first" })
      : handler(request, response)

const write: Handler = ({ session }, response) => {
  const data = session.data ?? initial
  session.data = { ...data, count: data.count + 1 }
  response.json({ count: session.data.count })
}

const app = express()
app.use(express.json())
app.use(
  session({
    store,
    secret: "a secret of the benchmark",
    resave: false,
    saveUninitialized: false,
    cookie: { maxAge: idleMillis, sameSite: "lax" }
  })
)
const get = (path: string, handler: Handler) => app.get(path, handler)
const post = (path: string, handler: Handler) => app.post(path, handler)

get(
  "/read",
  mine(({ session }, response) => response.json({ principal: session.principal }))
)
post("/write", mine(write))
post("/login", async (request, response) => {
  const { username } = request.body
  await called((done) => request.session.regenerate(done))
  request.session.principal = username
  request.session.data = initial
  await called((done) => request.session.save(done))
  sessions.add(username, request.sessionID)
  response.json({ principal: username })
})
post(
  "/slow",
  mine(async (request, response) => {
    await setTimeout(slowMillis)
    write(request, response)
  })
)
post("/logout", async ({ session }, response) => {
  await called((done) => session.destroy(done))
  response.json({ principal: null })
})
post(
  "/revoke",
  mine(async (request, response) => {
    await sessions.revokeOthers(request.session.principal ?? "", request.sessionID)
    response.json({ principal: null })
  })
)

const server = app.listen(port, "127.0.0.1", () => listening(() => server.close()))
