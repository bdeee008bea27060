/**
 * A PostgreSQL server with TLS, whose certificate no authority signed that Node knows.
 *
 * It lives as long as the scope it was made in.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as certificate from "./certificate.ts"

/** Gives a server this certificate. With `only`, `pg_hba.conf` has no lines but `hostssl`. */
export const encrypt = Effect.fnUntraced(function* (
  server: TestPostgres.TestPostgres["Service"],
  { authority, cert, key, only = false }: certificate.Certified & { authority: string; only?: boolean }
) {
  const data = Path.join(server.directory, "data")
  const authorityFile = Path.join(server.directory, "authority.pem")
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
    await Fs.writeFile(authorityFile, authority)
    await Fs.appendFile(Path.join(data, "postgresql.conf"), "\nssl = on\n")
    if (only) await Fs.writeFile(Path.join(data, "pg_hba.conf"), "hostssl all all 127.0.0.1/32 scram-sha-256\n")
  })
  yield* server.start
  return authorityFile
})

/** The server, and the file with its certificate, which is its own authority. */
export const tlsServer = Effect.gen(function* () {
  const server = yield* TestPostgres.make({ maxConnections: 20 })
  const own = certificate.make()
  return { server, authority: yield* encrypt(server, { ...own, authority: own.cert }) }
})
