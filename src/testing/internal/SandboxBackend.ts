/**
 * The one connection of a sandbox to the server: logged in by the driver, and spoken to in messages from then on.
 *
 * It lives as long as the scope it was opened in, and serves one sandbox after the other; when the scope has closed, the server has
 * no backend of it any more.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { Buffer } from "node:buffer"
import * as Net from "node:net"
import { Duplex } from "node:stream"
import * as PgDirect from "../../postgres/internal/PgDirect.ts"
import * as PgTarget from "../../postgres/internal/PgTarget.ts"
import { inRealTime } from "../../embedded/Postmaster.ts"
import * as Frames from "./SandboxFrames.ts"

/** Where the server is. */
const addressOf = (url: URL): { readonly host: string; readonly port: number } | { readonly path: string } => {
  const host = decodeURIComponent(url.hostname).replace(/^\[|\]$/g, "")
  const port = Number(url.port === "" ? "5432" : url.port)
  return host.startsWith("/") ? { path: `${host}/.s.PGSQL.${port}` } : { host, port }
}

export interface Backend {
  readonly pid: number
  /** What the server said of itself when the connection was made. */
  readonly parameters: ReadonlyMap<string, string>
  /** Whether it has the clocks of sandboxes; `undefined` until that was tried. */
  live: boolean | undefined
  readonly send: (...frames: ReadonlyArray<Frames.Frame>) => void
  /** Asks the server to cancel what runs now. */
  readonly cancel: () => void
  /** Who hears what the server says, and of its end. */
  readonly listen: (onFrame: (frame: Frames.Frame) => void, onGone: () => void) => void
}

/** Settings under which a transaction may wait for the next statement of a test for as long as that takes. */
const patient = {
  idle_in_transaction_session_timeout: "0",
  idle_session_timeout: "0",
  client_connection_check_interval: "1s"
}

/** How long the server may take to be rid of the backend, in milliseconds; then its socket is destroyed. */
const goneWithin = 3000

/** Opens it. */
export const open = Effect.fnUntraced(function* (target: Redacted.Redacted<string>, applicationName: string) {
  const url = new URL(Redacted.value(PgTarget.of(target).config.url))
  url.searchParams.set("sslmode", "disable")
  const address = addressOf(url)
  const parameters = new Map<string, string>()
  let key = Buffer.alloc(8)
  const login = (frame: Frames.Frame) => {
    const type = Frames.typeOf(frame)
    if (type === "K") key = Buffer.from(frame.subarray(5))
    if (type !== "S") return
    const [name, next] = Frames.textAt(frame, 5)
    parameters.set(name, Frames.textAt(frame, next)[0])
  }
  const hear = Frames.reader((frame) => onFrame(frame))
  let onFrame: (frame: Frames.Frame) => void = login
  let onGone = () => {}
  let isOurs = false
  let socket: Net.Socket | undefined
  const gone = yield* Effect.sync(() => Promise.withResolvers<void>())

  const stream = () => {
    const up = Net.connect(address)
    socket = up
    up.setNoDelay(true)
    const driver = new Duplex({
      read() {},
      write(chunk: Buffer, _, done) {
        up.write(chunk)
        done()
      },
      final(done) {
        up.end()
        done()
      },
      destroy(error, done) {
        up.destroy()
        done(error)
      }
    })
    up.on("data", (bytes) => {
      hear(bytes)
      if (!isOurs) driver.push(bytes)
    })
    up.on("error", (error) => (isOurs ? up.destroy() : driver.destroy(error)))
    up.on("close", () => {
      gone.resolve()
      onGone()
      driver.push(null)
    })
    return driver
  }

  const cut = (millis: number) =>
    Effect.promise(async () => {
      const timer = setTimeout(() => socket?.destroy(), millis)
      await gone.promise
      clearTimeout(timer)
    })
  yield* Effect.addFinalizer(() => (socket === undefined ? Effect.void : cut(goneWithin)))
  const connection = yield* PgDirect.connect({
    url: Redacted.make(url.href),
    ssl: false,
    stream,
    applicationName,
    startupParameters: patient
  })
  isOurs = true
  onFrame = () => {}
  const backend: Backend = {
    pid: connection.processId,
    parameters,
    live: undefined,
    send: (...frames) => void socket?.write(Buffer.concat(frames)),
    cancel: () => {
      const side = Net.connect(address)
      side.on("error", () => side.destroy())
      side.end(Buffer.concat([Buffer.from([0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e]), key.subarray(0, 8)]))
      side.resume()
    },
    listen: (hears, goes) => {
      onFrame = hears
      onGone = goes
    }
  }
  return backend
}, inRealTime)
