import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs/promises"
import * as Net from "node:net"
import * as Path from "node:path"
import { once } from "node:events"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as PgOpening from "../../src/postgres/internal/PgOpening.ts"
import * as PgOutages from "../../src/postgres/internal/PgOutages.ts"
import * as PgTarget from "../../src/postgres/internal/PgTarget.ts"
import * as PgTransport from "../../src/postgres/internal/PgTransport.ts"
import { tlsServer } from "../support/tlsServer.ts"

const password = "Secret-pa55word"

/** This machine, by a name that does not say so. */
const elsewhere = "0.0.0.0"

const frame = (type: string, ...parts: ReadonlyArray<Buffer>) => {
  const body = Buffer.concat(parts)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length + 4)
  return Buffer.concat([Buffer.from(type), length, body])
}
const asks = (method: number, ...more: ReadonlyArray<Buffer>) => {
  const code = Buffer.alloc(4)
  code.writeUInt32BE(method)
  return frame("R", code, ...more)
}
const notice = frame("N", Buffer.from("SNOTICE\0Mhello\0\0"))
const clearText = asks(3)
const md5 = asks(5, Buffer.from("salt"))

/** A server that answers each packet with the next of these, byte by byte, and tells what it was sent. */
const serverOf = (answers: ReadonlyArray<Buffer>) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const heard: Array<Buffer> = []
      const sockets = new Set<Net.Socket>()
      const server = Net.createServer({ noDelay: true }, (socket) => {
        sockets.add(socket)
        const left = [...answers]
        socket.on("error", () => undefined)
        socket.on("data", (bytes: Buffer) => {
          heard.push(bytes)
          const answer = left.shift()
          if (answer === undefined) socket.end()
          else for (const byte of answer) socket.write(Buffer.of(byte))
        })
      })
      await once(server.listen(0, "0.0.0.0"), "listening")
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : 0
      return { port, heard: () => Buffer.concat(heard).toString("latin1"), server, sockets }
    }),
    ({ server, sockets }) =>
      Effect.sync(() => {
        for (const socket of sockets) socket.destroy()
        server.close()
      })
  )

const urlOf = (host: string, port: number, asked = "") =>
  Redacted.make(`postgres://alice:${password}@${host}:${port}/shop${asked}`)

/** Why a connection could not be had, as the operator's log says it. */
const refusedBy = (url: Redacted.Redacted<string>) =>
  Effect.map(
    Effect.scoped(Effect.result(PgOpening.make({ ...PgTarget.of(url).config, connectTimeout: "5 seconds" }))),
    Result.match({ onFailure: PgOutages.why, onSuccess: () => "connected" })
  )

describe("a password", () => {
  it.live("goes to nobody in clear text beyond this machine, however the server asks", () =>
    Effect.gen(function* () {
      for (const [asked, answers] of [
        ["", [clearText]],
        ["?sslmode=disable", [Buffer.concat([notice, clearText])]],
        ["?sslmode=prefer", [Buffer.from("N"), clearText]],
        ["?sslmode=allow", [Buffer.from("N"), Buffer.concat([notice, clearText])]]
      ] as const) {
        const { heard, port } = yield* serverOf(answers)
        const why = yield* refusedBy(urlOf(elsewhere, port, asked))
        assert.include(why, "asks for the password in clear text", asked)
        assert.include(why, "sslmode=verify-full")
        assert.include(heard(), "alice", asked)
        assert.notInclude(heard(), password, asked)
      }
    }).pipe(Effect.scoped)
  )

  it.live("is answered on this machine, and where it is not told", () =>
    Effect.gen(function* () {
      const here = yield* serverOf([clearText])
      yield* refusedBy(urlOf("127.0.0.1", here.port))
      assert.include(here.heard(), password)
      const hashed = yield* serverOf([md5])
      yield* refusedBy(urlOf(elsewhere, hashed.port))
      assert.match(hashed.heard(), /md5[0-9a-f]{32}/)
      assert.notInclude(hashed.heard(), password)
    }).pipe(Effect.scoped)
  )

  it.live("that a server asks for in clear text is sent under TLS, and a server that asks with SCRAM needs none", () =>
    Effect.gen(function* () {
      const { authority, server } = yield* tlsServer
      const admin = PgOpening.make(PgTarget.of(server.superuserUrl).config)
      yield* Effect.scoped(Effect.flatMap(admin, (it) => it.query(`create role alice login password '${password}'`)))
      const url = (asked: string) => {
        const changed = new URL(Redacted.value(urlOf(elsewhere, server.port, asked)))
        changed.pathname = "/postgres"
        return Redacted.make(changed.href)
      }
      const hba = Path.join(server.directory, "data", "pg_hba.conf")
      const rules = yield* Effect.promise(() => Fs.readFile(hba, "utf8"))
      const asking = Effect.fnUntraced(function* (method: string) {
        yield* Effect.promise(() => Fs.writeFile(hba, `host all alice all ${method}\n${rules}`))
        yield* Effect.scoped(Effect.flatMap(admin, (it) => it.query("select pg_reload_conf()")))
      })
      yield* asking("password")
      const until = (asked: string, outcome: string) =>
        Effect.repeat(refusedBy(url(asked)), { until: (said) => said.includes(outcome) })
      yield* until("", "asks for the password in clear text")
      assert.strictEqual(yield* refusedBy(url(`?sslmode=verify-ca&sslrootcert=${authority}`)), "connected")
      assert.strictEqual(yield* refusedBy(url("?sslmode=require")), "connected")
      // No authority that Node knows has signed its certificate, which is only looked at under TLS.
      assert.include(yield* refusedBy(url("?sslmode=prefer")), "SELF_SIGNED")
      yield* asking("scram-sha-256")
      yield* until("", "connected")
    }).pipe(Effect.scoped)
  )
})

describe("a connection in clear text", () => {
  it("is one that goes beyond this machine and demands no TLS", () => {
    for (const host of ["localhost", "127.0.0.1", "127.3.2.1", "::1", "/run/postgresql"]) {
      for (const mode of [undefined, "disable", "prefer", "require"]) {
        assert.isFalse(PgTransport.isInClear(host, mode), host)
      }
    }
    for (const host of [
      "db.internal",
      "10.0.0.5",
      "0.0.0.0",
      "::ffff:127.0.0.1",
      "localhost.example.org",
      "1270.0.0.1"
    ]) {
      for (const mode of [undefined, "disable", "allow", "prefer"]) {
        assert.isTrue(PgTransport.isInClear(host, mode), host)
      }
      for (const mode of ["require", "verify-ca", "verify-full"]) assert.isFalse(PgTransport.isInClear(host, mode))
    }
  })
})
