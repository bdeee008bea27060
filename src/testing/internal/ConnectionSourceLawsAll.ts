/** The laws of connection sources. */
import { assert } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { ConnectionSource, OpenConnection, Recall } from "../../connection/ConnectionSource.ts"
import { eventually } from "./Eventually.ts"
import type { Law } from "./Laws.ts"

/** What not every world of a source has. */
export type Need = "ids" | "kill" | "sleep" | "unreachable"

/** What a trial is given. */
export interface World {
  readonly source: ConnectionSource["Service"]
  readonly connections: Effect.Effect<ReadonlyArray<string>, unknown>
  readonly kill?: ((id: string) => Effect.Effect<void, unknown>) | undefined
  readonly unreachable?: ConnectionSource["Service"] | undefined
}

/** What the SQL of the server says. */
export interface Dialect {
  /** A statement that succeeds. */
  readonly nothing: string
  /** Its only row has the connection's id in a column `id`. None: the server does not tell it. */
  readonly id?: string | undefined
  /** A statement that runs for a minute. */
  readonly sleep?: string | undefined
  /** What a borrower can leave behind, statement by statement, each of which succeeds. */
  readonly dirt: ReadonlyArray<string>
  /** Its rows are other ones where something was left behind. */
  readonly traces: string
}

const law = (
  name: string,
  needs: ReadonlyArray<Need>,
  trial: (world: World) => Effect.Effect<unknown, unknown, Scope.Scope>
): Law<World, Need> => ({ name, needs, trial })

/** As a pool takes a connection back whose statement nobody can end otherwise. */
const recallOf = (connection: OpenConnection): Recall => ({
  kill: Effect.suspend(() => connection.expel(Duration.zero)),
  reason: () => undefined
})

/** Runs statements as one borrower, who then lets go. */
const borrow = (connection: OpenConnection, statements: ReadonlyArray<string>) =>
  Effect.scoped(
    Effect.gen(function* () {
      const sql = yield* (yield* connection.lend(recallOf(connection))).sql
      return yield* Effect.forEach(statements, (statement) => sql.unsafe(statement).unprepared)
    })
  )

const last = (all: ReadonlyArray<ReadonlyArray<object>>) => all.at(-1) ?? []

export const laws = (dialect: Dialect): ReadonlyArray<Law<World, Need>> => [
  law("a connection is at the server from its opening until its scope closes, and no longer", [], (world) =>
    Effect.gen(function* () {
      const before = (yield* world.connections).length
      yield* Effect.scoped(
        Effect.gen(function* () {
          const connection = yield* world.source.open
          assert.lengthOf(yield* world.connections, before + 1)
          assert.strictEqual(connection.state(), "usable")
          yield* borrow(connection, [dialect.nothing])
        })
      )
      yield* eventually(world.connections, ({ length }) => length === before)
    })
  ),

  law("its id is what the server knows it by, and no other connection's", ["ids"], (world) =>
    Effect.gen(function* () {
      const [one, other] = [yield* world.source.open, yield* world.source.open]
      assert.notStrictEqual(one.id, other.id)
      for (const connection of [one, other]) {
        const [row] = last(yield* borrow(connection, [dialect.id ?? assert.fail("the dialect has no `id`")]))
        assert.strictEqual(String((row as { readonly id?: unknown } | undefined)?.id), connection.id)
      }
    })
  ),

  law("C3 a reset undoes what a borrower left behind, and the connection stays", [], (world) =>
    Effect.gen(function* () {
      const connection = yield* world.source.open
      const asNew = last(yield* borrow(connection, [dialect.traces]))
      yield* connection.reset
      for (const dirt of dialect.dirt) {
        yield* borrow(connection, [dirt])
        yield* connection.reset
        assert.deepStrictEqual(last(yield* borrow(connection, [dialect.traces])), asNew, dirt)
        yield* connection.reset
      }
      yield* borrow(connection, dialect.dirt)
      yield* connection.reset
      assert.deepStrictEqual(last(yield* borrow(connection, [dialect.traces])), asNew)
      assert.strictEqual(connection.state(), "usable")
    })
  ),

  law("a failed statement costs its borrower nothing but that statement", [], (world) =>
    Effect.gen(function* () {
      const connection = yield* world.source.open
      const exit = yield* Effect.exit(borrow(connection, ["this is no statement"]))
      assert.isTrue(Exit.isFailure(exit))
      yield* connection.reset
      yield* borrow(connection, [dialect.nothing])
      yield* connection.check
      assert.strictEqual(connection.state(), "usable")
    })
  ),

  law(
    "C2 an interrupted statement is over when the borrower has let go: its connection goes on or is gone",
    ["sleep"],
    (world) =>
      Effect.gen(function* () {
        for (const millis of [0, 1, 5, 20, 80]) {
          const scope = yield* Scope.fork(yield* Effect.scope)
          const connection = yield* Scope.provide(world.source.open, scope)
          const lent = yield* Deferred.make<void>()
          const sleeping = Effect.scoped(
            Effect.gen(function* () {
              const sql = yield* (yield* connection.lend(recallOf(connection))).sql
              yield* Deferred.succeed(lent, undefined)
              yield* sql.unsafe(dialect.sleep ?? assert.fail("the dialect has no `sleep`")).unprepared
            })
          )
          const fiber = yield* Effect.forkChild(sleeping)
          yield* Deferred.await(lent)
          yield* Effect.sleep(millis)
          yield* Fiber.interrupt(fiber)
          if (connection.state() === "usable") {
            yield* connection.reset
            yield* borrow(connection, [dialect.nothing])
          } else assert.notInclude(yield* world.connections, connection.id)
          yield* Scope.close(scope, Exit.void)
        }
      })
  ),

  law("a check tells a live connection from one that the server has ended", ["kill"], (world) =>
    Effect.gen(function* () {
      const connection = yield* world.source.open
      yield* connection.check
      yield* world.kill?.(connection.id) ?? assert.fail("the world has no `kill`")
      yield* eventually(Effect.exit(connection.check), Exit.isFailure)
      yield* eventually(Effect.sync(connection.state), (state) => state !== "usable")
    })
  ),

  law("C7 what is expelled is gone from the server, and nobody else is", ["ids"], (world) =>
    Effect.gen(function* () {
      const other = yield* world.source.open
      const scope = yield* Scope.fork(yield* Effect.scope)
      const connection = yield* Scope.provide(world.source.open, scope)
      yield* connection.expel(Duration.zero)
      yield* eventually(world.connections, (all) => !all.includes(connection.id))
      assert.include(yield* world.connections, other.id)
      yield* borrow(other, [dialect.nothing])
      yield* Scope.close(scope, Exit.void)
    })
  ),

  law("a server that cannot be reached is said to be unavailable, and no secret with it", ["unreachable"], (world) =>
    Effect.gen(function* () {
      const source = world.unreachable ?? assert.fail("the world has no `unreachable`")
      const error = yield* Effect.flip(Effect.scoped(source.open))
      assert.strictEqual(error.reason._tag, "Unavailable")
      assert.notInclude(`${source.name} ${error.message}`, "secret")
    })
  )
]
