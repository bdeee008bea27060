/**
 * A service with its embedded database, as `npm start` runs it, and users of it: for what one user can do to another.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { connect, type Socket } from "node:net"
import { tmpdir } from "node:os"
import * as Path from "node:path"

const program = Path.join(import.meta.dirname, "../../src/bin.ts")
const password = "correct horse battery staple"

const environment = (more: Readonly<Record<string, string>> = {}) => ({
  PATH: process.env.PATH ?? "",
  HOME: process.env.HOME ?? "/",
  PORT: "0",
  HOLDFAST_DEMO_PASSWORD: password,
  ...more
})

/** A service with the users alice, bob and carol. */
export const start = async () => {
  const cwd = mkdtempSync(Path.join(tmpdir(), "holdfast-isolation-"))
  const child = spawn(process.execPath, [program, "serve"], {
    cwd,
    env: environment(),
    stdio: ["ignore", "pipe", "pipe"]
  })
  let said = ""
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (said += String(chunk)))
  const url = await until(() => /Holdfast listening on (\S+)/.exec(said)?.[1])
  for (const name of ["alice", "bob", "carol"]) {
    const added = spawn(process.execPath, [program, "user", "add", name], {
      cwd,
      env: environment({ HOLDFAST_PASSWORD: password }),
      stdio: "inherit"
    })
    await once(added, "exit")
  }
  return {
    url,
    pid: child.pid ?? 0,
    said: () => said,
    isAlive: () => child.exitCode === null,
    stop: async () => {
      child.kill("SIGTERM")
      if (child.exitCode === null) await once(child, "exit")
      rmSync(cwd, { recursive: true, force: true })
    }
  }
}

export const until = async <A>(ask: () => A | undefined): Promise<A> => {
  for (let tries = 0; tries < 3000; tries++) {
    const answer = ask()
    if (answer !== undefined) return answer
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error("Nothing in time")
}

export interface User {
  readonly send: (
    method: string,
    path: string,
    body?: unknown,
    headers?: Readonly<Record<string, string>>
  ) => Promise<Answer>
  readonly cookie: () => string
}
export interface Answer {
  readonly status: number
  readonly json: unknown
}

export const login = async (url: string, username: string): Promise<User> => {
  let cookie = ""
  const send: User["send"] = async (method, path, body, headers = {}) => {
    const response = await fetch(url + path, {
      method,
      headers: {
        cookie,
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers
      },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) })
    })
    const set = response.headers.getSetCookie()[0]
    if (set !== undefined) cookie = set.split(";")[0] ?? ""
    const text = await response.text()
    let json: unknown
    try {
      json = JSON.parse(text)
    } catch {
      json = text
    }
    return { status: response.status, json }
  }
  const { status } = await send("POST", "/login", { username, password })
  if (status !== 200) throw new Error(`No login of ${username}: ${status}`)
  return { send, cookie: () => cookie }
}

/** Answers that nobody reads, for as long as the service lets them stay. */
export const unread = (url: string, cookie: string, path: string, streams: Set<Socket>, most = 300) => {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.on("error", () => {})
  socket.on("close", () => streams.delete(socket))
  socket.write(`GET ${path} HTTP/1.1\r\nhost: ${hostname}:${port}\r\ncookie: ${cookie}\r\n\r\n`)
  socket.pause()
  streams.add(socket)
  // A client has only so many sockets, too.
  if (streams.size > most) [...streams][0]?.destroy()
}

export const residentMb = (pid: number) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024
