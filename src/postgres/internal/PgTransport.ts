/**
 * What a connection to PostgreSQL may say on a network that anybody reads: never a password in clear text.
 *
 * A server, or who stands in its place, asks for the password in the way it likes (PostgreSQL, "Password Authentication"). Where the
 * connection goes beyond this machine and has no TLS, one that asks for it in clear text gets none, and the connection is closed
 * before the driver answers. SCRAM and MD5 do not tell the password itself and are answered.
 */
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import { Buffer } from "node:buffer"
import * as Net from "node:net"
import * as Loopback from "../../lifetime/internal/Loopback.ts"

/** Modes with which nothing passes the network before there is TLS. */
const encrypted: ReadonlySet<string | undefined> = new Set(["require", "verify-ca", "verify-full"])

/** Modes with which the server is asked for TLS, and may refuse it. */
const asking: ReadonlySet<string | undefined> = new Set(["allow", "prefer"])

/** Whether something may pass a network without TLS: the host is neither this machine's nor a socket, and nothing demands TLS. */
export const isInClear = (host: string, sslmode: string | undefined): boolean =>
  !host.startsWith("/") && !Loopback.isLoopback(host) && !encrypted.has(sslmode)

const refusal = () =>
  new Error(
    "The server asks for the password in clear text, and nothing encrypts the connection: it was not sent. Set sslmode=verify-full in the URL, or have the server ask with scram-sha-256"
  )

/** The most that a server says before it asks for a password. What says more does not ask for one. */
const most = 65_536

const [R, N] = ["R", "N"].map((letter) => letter.charCodeAt(0))
const [ok, clearText] = [0, 3]

/** Destroys a socket on which the password is asked for in clear text, before anybody else hears of it. */
const watch = (socket: Net.Socket, isAsking: boolean): void => {
  let bytes = Buffer.alloc(0)
  let awaitsTls = isAsking
  const done = () => socket.off("data", hear)
  const hear = (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk])
    if (awaitsTls) {
      // From `S` on, what passes is TLS; anything but `N` is no answer.
      if (bytes[0] !== N) return done()
      bytes = bytes.subarray(1)
      awaitsTls = false
    }
    while (bytes.length >= 5) {
      const length = bytes.readUInt32BE(1)
      if (length > most) return done()
      if (bytes.length < length + 1) return undefined
      if (bytes[0] === R && length >= 8) {
        const method = bytes.readUInt32BE(5)
        if (method === clearText) {
          done()
          return socket.destroy(refusal())
        }
        if (method === ok) return done()
      }
      bytes = bytes.subarray(length + 1)
    }
    return undefined
  }
  socket.on("data", hear)
}

/** After how long of nothing the system asks whether the other side is there, in milliseconds. */
const keepAlive = 15_000

/** What the driver connects with; nothing where no password can pass in clear text. */
export const of = (target: {
  readonly host: string
  readonly port: string
  readonly sslmode: string | undefined
}): Pick<PgConnection.Config, "stream"> => {
  const { host, port, sslmode } = target
  if (!isInClear(host, sslmode)) return {}
  return {
    stream: () => {
      const socket = Net.connect({
        host,
        port: Number(port),
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: keepAlive
      })
      watch(socket, asking.has(sslmode))
      return socket
    }
  }
}
