import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { createConnection } from "node:net"
import { Duplex } from "node:stream"
import * as PgFrames from "../../src/postgres/internal/PgFrames.ts"
import * as PgStatement from "../../src/postgres/internal/PgStatement.ts"
import * as PgWire from "../../src/postgres/internal/PgWire.ts"
import { eventually } from "../support/conditions.ts"
import { superuserUrl } from "../support/postgres.ts"

/** How what the server sends is cut before it arrives, and how much of it has been asked for. */
interface Network {
  cut: (bytes: Buffer) => ReadonlyArray<Buffer>
  taken: number
  /** Nobody takes what has arrived. */
  isPaused?: boolean
  /** There is no room for more, so none is read. */
  isFull?: boolean
}

/** A real connection whose answers arrive in pieces of the test's choice, each a packet of its own. */
class Pieces extends Duplex {
  private readonly socket
  private readonly network
  private readonly pieces: Array<Buffer> = []

  constructor(host: string, port: number, network: Network) {
    super()
    this.network = network
    this.socket = createConnection({ host, port })
    this.socket.on("data", (bytes) => {
      this.pieces.push(...network.cut(bytes))
      this.go()
    })
    this.socket.on("close", () => this.destroy())
    this.socket.on("error", () => this.destroy())
  }

  private go(): void {
    for (let piece = this.pieces.shift(); piece !== undefined; piece = this.pieces.shift()) {
      this.network.taken += piece.length
      if (this.push(piece)) continue
      this.network.isFull = true
      return void this.socket.pause()
    }
  }

  override pause(): this {
    this.network.isPaused = true
    return super.pause()
  }

  override resume(): this {
    this.network.isPaused = false
    return super.resume()
  }

  override _read(): void {
    this.network.isFull = false
    this.go()
    if (this.pieces.length === 0) this.socket.resume()
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: (error?: Error | null) => void): void {
    this.socket.write(chunk, done)
  }

  override _final(done: () => void): void {
    this.socket.end(done)
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.socket.destroy()
    done(error)
  }
}

const whole = (bytes: Buffer) => [bytes]

const inPieces = (size: number) => (bytes: Buffer) =>
  Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) => bytes.subarray(n * size, (n + 1) * size))

const wired = Effect.fnUntraced(function* (network: Network) {
  const url = new URL(Redacted.value(yield* superuserUrl))
  const connection = yield* PgConnection.make({
    url: yield* superuserUrl,
    stream: () => new Pieces(url.hostname, Number(url.port), network)
  })
  return { connection, wire: PgWire.attach(connection) ?? assert.fail("no wire") }
})

/** A row as text, however large it is. */
const textsOf = (row: PgStatement.Arrived): PgStatement.Texts =>
  row instanceof PgStatement.LargeRow ? row.values.map((value) => value?.toString("utf8") ?? null) : row

const all = (statement: PgStatement.PgStatement): Effect.Effect<ReadonlyArray<PgStatement.Texts>> =>
  Effect.flatMap(statement.next, (rows) =>
    rows.length === 0 ? Effect.succeed([]) : Effect.map(all(statement), (rest) => [...rows.map(textsOf), ...rest])
  )

/** Sends a statement and tells all that the server says of it. */
const run = Effect.fnUntraced(function* (wire: PgWire.PgWire, sql: string, params: ReadonlyArray<string | null> = []) {
  const statement = new PgStatement.PgStatement()
  wire.send(statement, PgFrames.statement(sql, params))
  const rows = yield* all(statement)
  const { columns, command, error, isTransactionOpen, stage } = statement
  return { rows, columns, command, error, isTransactionOpen, stage }
})

const statements: ReadonlyArray<readonly [sql: string, params?: ReadonlyArray<string | null>]> = [
  ["select n, repeat('é', n), null as none, '' as empty from generate_series(1, 40) n"],
  ["select $1::text || $2, $3::int[], $4::jsonb", ["ä\u{1F600}", "\ud800", "{1,NULL}", null]],
  ["create temp table written (a int)"],
  ["insert into written select generate_series(1, 3) returning a"],
  [""],
  ["select nothing from nowhere"],
  ["select 1 / (n - 3) from generate_series(1, 9) n"],
  ["do $$ begin raise notice 'heard by nobody'; perform set_config('application_name', 'told', false); end $$"],
  ["select repeat('x', 200000)"],
  ["begin"],
  ["select 1 as a, 2 as a"],
  ["rollback"]
]

/** What all statements come to, one after another, on one connection. */
const told = Effect.fnUntraced(function* (cut: Network["cut"]) {
  const network: Network = { cut: whole, taken: 0 }
  const { connection, wire } = yield* wired(network)
  network.cut = cut
  const answers = yield* Effect.forEach(statements, ([sql, params]) => run(wire, sql, params))
  // The driver goes on where it was.
  const { rows } = yield* connection.query("select 1 as one")
  return { answers, rows }
})

describe("PgStatement", () => {
  it.live("reads the same however the server's answers are cut on their way", () =>
    Effect.gen(function* () {
      const expected = yield* told(whole)
      assert.deepStrictEqual(expected.rows, [{ one: 1 }])
      const [values, params, created, inserted, empty, unknown, divided, done, large, begun, twice] = expected.answers
      assert.deepStrictEqual(values?.rows[1], ["2", "éé", null, ""])
      assert.deepStrictEqual(params?.rows, [["ä\u{1F600}\ufffd", "{1,NULL}", null]])
      assert.deepInclude(created, { command: "CREATE TABLE", columns: [], rows: [] })
      assert.deepInclude(inserted, { command: "INSERT 0 3", rows: [["1"], ["2"], ["3"]] })
      assert.deepInclude(empty, { command: "", error: undefined, stage: "answered" })
      assert.deepInclude(unknown?.error, { code: "42P01", position: 21 })
      assert.deepInclude(divided, { command: "", rows: [["0"], ["-1"]] })
      assert.strictEqual(divided?.error?.code, "22012")
      assert.strictEqual(done?.command, "DO")
      assert.strictEqual(large?.rows[0]?.[0]?.length, 200_000)
      assert.isTrue(begun?.isTransactionOpen)
      assert.deepStrictEqual(twice?.columns, [
        { name: "a", typeId: 23 },
        { name: "a", typeId: 23 }
      ])
      for (const size of [1, 2, 3, 4, 5, 6, 7, 11, 64, 1021]) {
        assert.deepStrictEqual(yield* told(inPieces(size)), expected, `in pieces of ${size} bytes`)
      }
    }).pipe(Effect.scoped)
  )

  it.live("takes no more from the server than is asked for, and all of it when it is dropped", () =>
    Effect.gen(function* () {
      const network: Network = { cut: whole, taken: 0 }
      const { connection, wire } = yield* wired(network)
      const statement = new PgStatement.PgStatement()
      wire.send(statement, PgFrames.statement("select repeat('x', 1000) from generate_series(1, 50000)", []))
      const [first] = yield* statement.next
      assert.strictEqual(first === undefined ? undefined : textsOf(first)[0]?.length, 1000)
      yield* eventually(
        Effect.sync(() => network.isPaused === true && network.isFull === true),
        (isHeld) => isHeld
      )
      assert.isBelow(network.taken, 4_000_000)
      assert.isFalse(statement.isOver)
      yield* statement.over
      assert.isAbove(network.taken, 50_000_000)
      assert.strictEqual(statement.command, "SELECT 50000")
      assert.deepStrictEqual((yield* run(wire, "select 1")).rows, [["1"]])
      assert.deepStrictEqual((yield* connection.query("select 1 as one")).rows, [{ one: 1 }])
    }).pipe(Effect.scoped)
  )

  it.live("is over when the connection is: closed by the server, in the middle of its rows, or before it is sent", () =>
    Effect.gen(function* () {
      const lost = (sql: string) =>
        Effect.gen(function* () {
          const { wire } = yield* wired({ cut: whole, taken: 0 })
          yield* run(wire, "create temp table here (a int)")
          const statement = new PgStatement.PgStatement()
          wire.send(statement, PgFrames.statement(sql, []))
          yield* all(statement)
          const after = new PgStatement.PgStatement()
          yield* eventually(
            Effect.sync(() => wire.send(after, PgFrames.statement("select 1", []))),
            () => after.isOver
          )
          assert.deepInclude(after, { broken: "lost", stage: "unsent" })
          return statement
        }).pipe(Effect.scoped)
      const ended = yield* lost("select pg_terminate_backend(pg_backend_pid())")
      assert.deepInclude(ended, { broken: "lost", stage: "answered", isOver: true })
      assert.strictEqual(ended.error?.code, "57P01")
      assert.deepInclude(yield* lost("copy (select 1) to stdout"), { broken: "copy out", isOver: true, command: "" })
      assert.deepInclude(yield* lost("copy here from stdin"), { broken: "copy in", isOver: true, command: "" })
      assert.deepInclude(yield* lost("select repeat('x', 16 * 1024 * 1024)"), { broken: "too large", isOver: true })
    }).pipe(Effect.scoped)
  )
})
