/**
 * A PostgreSQL server with TLS, whose certificate no authority signed that Node knows.
 *
 * It lives as long as the scope it was made in.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import * as PgServer from "../../src/testing/PgServer.ts"
import * as certificate from "./certificate.ts"

/** The server, and the file with its certificate, which is its own authority. */
export const tlsServer = Effect.gen(function* () {
  const server = yield* PgServer.make({ maxConnections: 20 })
  const { cert, key } = certificate.make()
  const data = Path.join(server.directory, "data")
  const authority = Path.join(server.directory, "authority.pem")
  yield* server.stop
  yield* Effect.promise(async () => {
    const { gid, uid } = await Fs.stat(data)
    for (const [name, text] of [
      ["server.crt", cert],
      ["server.key", key]
    ] as const) {
      await Fs.writeFile(Path.join(data, name), text, { mode: 0o600 })
      await Fs.chown(Path.join(data, name), uid, gid)
    }
    await Fs.writeFile(authority, cert)
    await Fs.appendFile(Path.join(data, "postgresql.conf"), "\nssl = on\n")
  })
  yield* server.start
  return { server, authority }
})
