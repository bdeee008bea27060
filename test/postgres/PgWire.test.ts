import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import { Duplex } from "node:stream"
import { createServer, type AddressInfo } from "node:net"
import * as PgDriver from "../../src/postgres/internal/PgDriver.ts"
import * as PgFrames from "../../src/postgres/internal/PgFrames.ts"
import * as PgStatement from "../../src/postgres/internal/PgStatement.ts"
import * as PgWire from "../../src/postgres/internal/PgWire.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase, superuserUrl } from "../support/postgres.ts"

/** A message of a server's. */
const message = (type: string, body: Uint8Array | string = "", length = 4 + Buffer.from(body).length) => {
  const header = Buffer.alloc(5)
  header.write(type)
  header.writeUInt32BE(length, 1)
  return Buffer.concat([header, Buffer.from(body)])
}

const ready = message("Z", "I")
const hello = [message("R", "\0\0\0\0"), message("K", "\0\0\0\x01\0\0\0\x02"), ready]

/** A server that greets and then gives each packet the next answer. */
const serverOf = (...answers: ReadonlyArray<ReadonlyArray<Buffer>>) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: Redacted.Redacted<string>; readonly close: Effect.Effect<void> }>((resume) => {
      const server = createServer((socket) => {
        const next = [hello, ...answers].values()
        socket.on("error", () => {})
        socket.on("data", () => socket.write(Buffer.concat(next.next().value ?? [])))
      })
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        resume(
          Effect.succeed({
            url: Redacted.make(`postgres://somebody@127.0.0.1:${port}/nothing?sslmode=disable`),
            close: Effect.callback<void>((done) => void server.close(() => done(Effect.void)))
          })
        )
      })
    }),
    ({ close }) => close
  )

/** A connection with its wire, for the current scope. */
const connect = Effect.fnUntraced(function* (url: Redacted.Redacted<string>) {
  const connection = yield* PgConnection.make({ url })
  const wire = PgWire.attach(connection) ?? assert.fail("no wire")
  const socket: unknown = Reflect.get(Reflect.get(connection, "session"), "socket")
  return { connection, wire, socket: socket instanceof Duplex ? socket : assert.fail("no socket") }
})

const select = PgFrames.statement("select 1", [])
const done = [message("1"), message("2"), message("n"), message("C", "SELECT 1\0"), ready]

/** What was not caught by anybody meanwhile. */
const uncaught = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const errors: Array<unknown> = []
      const others = process.listeners("uncaughtException")
      const note = (error: unknown) => void errors.push(error)
      process.removeAllListeners("uncaughtException")
      process.on("uncaughtException", note)
      return { errors, others, note }
    }),
    ({ errors }) => Effect.as(effect, errors),
    ({ note, others }) =>
      Effect.sync(() => {
        process.off("uncaughtException", note)
        for (const other of others) process.on("uncaughtException", other)
      })
  )

describe("what the server answers", () => {
  it.live("is heard to the end of what can be read, also when what comes next cannot", () =>
    Effect.gen(function* () {
      const { url } = yield* serverOf([...done, message("D", "", PgStatement.maxMessageBytes + 1)])
      const { wire } = yield* connect(url)
      const statement = new PgStatement.PgStatement()
      wire.send(statement, select, { messages: PgFrames.query("select 'too large'"), cycles: 1 })
      const behind = wire.takeBehind() ?? assert.fail("nothing travels behind")
      yield* Effect.timeout(statement.over, "3 seconds")
      assert.deepInclude({ ...statement }, { command: "SELECT 1", broken: undefined })
      assert.match((yield* Effect.flip(behind)).message, /lost/)
    }).pipe(Effect.scoped)
  )

  it.live("costs the connection and nothing else where it is no message of the protocol", () =>
    Effect.gen(function* () {
      const beyond = message("D", "\x7f\xff")
      const short = Buffer.from("1\0\0\0\x02")
      for (const unreadable of [beyond, short]) {
        const { url } = yield* serverOf([message("1"), unreadable])
        const errors = yield* uncaught(
          Effect.gen(function* () {
            const { wire } = yield* connect(url)
            const statement = new PgStatement.PgStatement()
            wire.send(statement, select)
            assert.deepStrictEqual(yield* Effect.timeout(statement.next, "3 seconds"), [])
            assert.strictEqual(statement.broken, "lost")
          })
        )
        assert.deepStrictEqual(errors, [])
      }
    }).pipe(Effect.scoped)
  )
})

it.live("rows that nobody asks for are left with the server, few that are large as well as many that are small", () =>
  Effect.gen(function* () {
    const { url } = yield* freshDatabase
    const { socket, wire } = yield* connect(url)
    for (const [length, count, most] of [
      [1_000_000, 40, 5],
      [10, 100_000, 15_000]
    ] as const) {
      const statement = new PgStatement.PgStatement()
      wire.send(statement, PgFrames.statement(`select repeat('x', ${length}) from generate_series(1, ${count})`, []))
      for (let got = 0; got < count;) {
        if (got < count / 2)
          yield* eventually(
            Effect.sync(() => socket.isPaused()),
            Boolean,
            "3 seconds"
          )
        const rows = yield* statement.next
        const [row] = rows
        const [value] = row instanceof PgStatement.LargeRow ? row.values : (row ?? [])
        assert.strictEqual(value?.length, length)
        assert.isBelow(rows.length, most)
        got += rows.length
      }
      assert.deepStrictEqual(yield* statement.next, [])
      assert.isFalse(socket.isPaused())
    }
    const dropped = new PgStatement.PgStatement()
    wire.send(dropped, PgFrames.statement("select generate_series(1, 100000)", []))
    yield* eventually(
      Effect.sync(() => socket.isPaused()),
      Boolean
    )
    yield* dropped.over
    assert.strictEqual(dropped.command, "SELECT 100000")
    assert.isFalse(socket.isPaused())
    // All of it fits into one packet: there is nothing more to hold back.
    const short = new PgStatement.PgStatement()
    wire.send(short, PgFrames.statement("select from generate_series(1, 600)", []))
    yield* eventually(
      Effect.sync(() => short.isOver),
      Boolean
    )
    assert.isFalse(socket.isPaused())
  }).pipe(Effect.scoped)
)

const cyclesOf = (...sqls: ReadonlyArray<string>): PgWire.Messages => ({
  messages: Buffer.concat(sqls.map(PgFrames.query)),
  cycles: sqls.length
})

it.live("it is known whether the driver's own statement left a transaction open, however the answer is cut", () =>
  Effect.gen(function* () {
    const { connection, wire } = yield* connect(yield* superuserUrl)
    yield* connection.query("begin")
    assert.isFalse(wire.isOutsideTransaction())
    yield* connection.query("rollback")
    assert.isTrue(wire.isOutsideTransaction())
    const silent = yield* connect((yield* serverOf([])).url)
    const own = yield* Effect.forkChild(silent.connection.query("rollback"), { startImmediately: true })
    const answer = Buffer.concat(done)
    silent.socket.emit("data", answer.subarray(0, -1))
    assert.isFalse(silent.wire.isOutsideTransaction())
    silent.socket.emit("data", answer.subarray(-1))
    yield* Fiber.join(own)
    assert.isTrue(silent.wire.isOutsideTransaction())
  }).pipe(Effect.scoped)
)

it.live("an exchange has the rows of each of its cycles, or the first error", () =>
  Effect.gen(function* () {
    const { wire } = yield* connect(yield* superuserUrl)
    const rows = yield* wire.exchange(cyclesOf("select 1", "", "select 2; select 3"))
    assert.deepStrictEqual(rows, [[["1"]], [], [["2"], ["3"]]])
    const error = yield* Effect.flip(wire.exchange(cyclesOf("select 1", "select 1 / 0", "select nothing")))
    assert.strictEqual(error.code, "22012")
  }).pipe(Effect.scoped)
)

it.live(
  "what is sent together is answered each for itself: what is ahead, a statement, what is behind, the driver's own",
  () =>
    Effect.gen(function* () {
      const { connection, wire } = yield* connect(yield* superuserUrl)
      const channel = `heard_${randomUUID().replaceAll("-", "_")}`
      const heard = yield* connection.listen(channel)
      const send = Effect.suspend(() => {
        const statement = new PgStatement.PgStatement(2)
        const ahead = cyclesOf("select 'ahead'", "select nothing").messages
        const own = PgFrames.statement("select pg_notify($1, 'a payload')", [channel])
        wire.send(statement, Buffer.concat([ahead, own]), cyclesOf("select 'behind'"))
        return Effect.as(statement.over, statement)
      })
      const { columns, error } = yield* send
      assert.deepStrictEqual([columns.map(({ name }) => name), error], [["pg_notify"], undefined])
      const behind = yield* wire.takeBehind() ?? assert.fail("nothing travelled behind")
      assert.deepStrictEqual(behind, [[["behind"]]])
      assert.isUndefined(wire.takeBehind())
      assert.deepInclude(yield* Effect.timeout(Queue.take(heard), "3 seconds"), { channel, payload: "a payload" })
      yield* send
      yield* wire.exchange(cyclesOf("select 1"))
      assert.isUndefined(wire.takeBehind(), "something else was sent since")
    }).pipe(Effect.scoped)
)

it.live("C6 the driver gives up a connection unless it is its statement that confirmed the cancel", () =>
  Effect.gen(function* () {
    const witness = yield* PgConnection.make({ url: yield* superuserUrl })
    const sleeping = (processId: number) =>
      eventually(
        witness.query("select from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'", [processId]),
        ({ rows }) => rows.length > 0
      )
    const cancelled = Effect.fnUntraced(function* (
      sql: string,
      when: (processId: number) => Effect.Effect<unknown, unknown>
    ) {
      const { connection, wire } = yield* connect(yield* superuserUrl)
      const state = PgDriver.watch(connection)
      const statement = new PgStatement.PgStatement()
      wire.send(statement, PgFrames.statement(sql, []))
      yield* Effect.andThen(when(connection.processId), when === sleeping ? Effect.void : statement.over)
      yield* connection.interrupt
      yield* statement.over
      return [statement.error?.code, state()]
    })
    assert.deepStrictEqual(yield* cancelled("select pg_sleep(60)", sleeping), ["57014", "usable"])
    const deaf = "do $$ begin perform pg_sleep(60); exception when query_canceled then null; end $$"
    assert.deepStrictEqual(yield* cancelled(deaf, sleeping), [undefined, "retired"])
    assert.deepStrictEqual(yield* cancelled("select 1", () => Effect.void), [undefined, "retired"])
  }).pipe(Effect.scoped)
)

it.live("nothing is sent on a connection that was closed, and whoever wanted to hears that it is lost", () =>
  Effect.gen(function* () {
    const { url } = yield* freshDatabase
    const scope = yield* Scope.fork(yield* Effect.scope)
    const { connection, wire } = yield* Scope.provide(connect(url), scope)
    const unanswered = new PgStatement.PgStatement(9)
    wire.send(unanswered, select)
    const errors = yield* uncaught(
      Effect.gen(function* () {
        yield* Scope.close(scope, Exit.void)
        const statement = new PgStatement.PgStatement()
        wire.send(statement, select)
        assert.match((yield* Effect.flip(wire.exchange({ messages: PgFrames.query(""), cycles: 1 }))).message, /lost/)
        yield* statement.over
        assert.strictEqual(statement.broken, "lost")
        yield* PgWire.gone(connection)
        yield* Effect.timeout(unanswered.begun, "3 seconds")
        const late = wire.exchange(cyclesOf("select 1"))
        assert.match((yield* Effect.flip(Effect.timeout(late, "3 seconds"))).message, /lost/)
      })
    )
    assert.deepStrictEqual(errors, [])
  }).pipe(Effect.scoped)
)
