import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import { randomUUID } from "node:crypto"
import { QueriesUnavailable, QueryError } from "../../src/query/QueryError.ts"
import * as QueryId from "../../src/query/QueryId.ts"
import { QueryDriver } from "../../src/query/QueryDriver.ts"
import * as SnowflakeQueryDriver from "../../src/snowflake/SnowflakeQueryDriver.ts"
import type { Call, Fault } from "../../src/testing/SnowflakeServer.ts"
import { eventually } from "../support/conditions.ts"
import { alone } from "../support/scripted.ts"
import { optionsOf, serverOf } from "../support/snowflake.ts"
import * as Takeover from "../support/takeover.ts"

const { alice } = Takeover

/** Two instances on one server. */
const two = Effect.gen(function* () {
  const { server } = yield* serverOf()
  const engine = Effect.map(SnowflakeQueryDriver.make(optionsOf(server)), (made) => ({
    driver: Context.get(made, QueryDriver)
  }))
  return { server, ...(yield* Takeover.two(engine)) }
})

const nowhere = { columns: () => Effect.void, rows: () => Effect.void }

const execution = (onHandle: (handle: string) => Effect.Effect<void, QueryError>) => ({
  id: QueryId.make(),
  onDone: () => undefined,
  onGivenUp: () => undefined,
  onHandle
})

/** A server and a driver of one's own. */
const one = Effect.gen(function* () {
  const { server } = yield* serverOf()
  return { server, driver: Context.get(yield* SnowflakeQueryDriver.make(optionsOf(server)), QueryDriver) }
})

describe("Snowflake, when the instance that ran a statement is gone", () => {
  const lossOf = (name: string, fault: (call: Call) => Fault) =>
    it.live(`K3 another instance ends its statement at the server, and the record has one outcome: ${name}`, () =>
      alone(
        Effect.gen(function* () {
          const { die, dying, notes, other, server } = yield* two
          yield* server.decide(fault)
          const { id } = yield* dying.submit("select pg_sleep(600)")
          yield* eventually(server.running, (count) => count === 1)
          yield* die
          const failed = yield* other.registry.await(alice, id)
          assert.strictEqual(yield* server.running, 0)
          assert.deepInclude(failed, { state: "Failed" })
          assert.deepInclude(failed.error, { _tag: "QueriesUnavailable", written: "unknown" })
          assert.include(JSON.stringify(failed.error), "its statement does not run any more")
          assert.strictEqual(yield* server.executions("select pg_sleep(600)"), 1)
          assert.deepStrictEqual(yield* notes, [])
          assert.deepStrictEqual(yield* other.registry.status(alice, id), failed)
        })
      )
    )

  lossOf("its handle is noted", () => "pass")
  lossOf("a cancel says that it worked, and did not", ({ kind, number }) =>
    kind === "cancel" && number === 1 ? "feign" : "pass"
  )
  // The instance never learns the handle: its first call is lost, and its second one gets no answer.
  lossOf("it was gone before it knew the handle", ({ kind, number }) => {
    if (kind !== "submit" || number > 2) return "pass"
    return number === 1 ? "lose" : "hang"
  })

  it.live(
    "K3 while the server does not say that the statement is over, nobody says so, and it does not run again",
    () =>
      alone(
        Effect.gen(function* () {
          const { die, dying, other, server } = yield* two
          let isAway = false
          let refused = 0
          yield* server.decide(({ kind }) => {
            // The one that stands still only looks.
            if (isAway && kind === "cancel") refused += 1
            return isAway ? { status: 503 } : "pass"
          })
          const sql = "select 'again' from pg_sleep(600)"
          const { id } = yield* dying.submit(sql, { rerun: true })
          yield* eventually(server.running, (count) => count === 1)
          yield* eventually(other.registry.status(alice, id), ({ state }) => state === "Running")
          isAway = true
          yield* die
          yield* eventually(
            Effect.sync(() => refused),
            (count) => count > 1
          )
          assert.strictEqual((yield* other.registry.status(alice, id)).state, "Running")
          assert.strictEqual(yield* server.executions(sql), 1)
          isAway = false
          // The first one is over before the second one begins.
          yield* eventually(server.executions(sql), (count) => count === 2)
          assert.strictEqual(yield* server.running, 1)
          assert.strictEqual((yield* other.registry.cancel(alice, id)).state, "Canceled")
        })
      )
  )

  it.live("of an instance of an older version, which noted nothing, it is not said that its statement is over", () =>
    alone(
      Effect.gen(function* () {
        const { ask, die, dying, other, server } = yield* two
        const { id } = yield* dying.submit("select pg_sleep(600)", { rerun: true })
        yield* eventually(other.registry.status(alice, id), ({ state }) => state === "Running")
        yield* eventually(server.running, (count) => count === 1)
        yield* ask("with i as (update holdfast.query_instances set notes = false) delete from holdfast.query_backends")
        yield* die
        const failed = yield* other.registry.await(alice, id)
        assert.include(JSON.stringify(failed.error), "whether its statement still runs is not known")
        assert.strictEqual(yield* server.executions("select pg_sleep(600)"), 1)
      })
    )
  )

  it.live("what was noted is forgotten when the statement is over", () =>
    alone(
      Effect.gen(function* () {
        const { notes, other, server } = yield* two
        const { id } = yield* other.submit("select pg_sleep(600)")
        // The id of the request, and that with the handle.
        yield* eventually(notes, (rows) => rows.length === 2)
        yield* other.registry.cancel(alice, id)
        yield* eventually(notes, (rows) => rows.length === 0)
        assert.strictEqual(yield* server.running, 0)
      })
    )
  )

  it.live("a request that comes after the instance was taken for gone begins nothing", () =>
    Effect.gen(function* () {
      const { driver, server } = yield* one
      const requestId = randomUUID()
      assert.strictEqual(yield* driver.elsewhere?.end([requestId]) ?? Effect.die("nothing ends"), 0)
      const response = yield* Effect.promise(() =>
        fetch(`${server.url}/api/v2/statements?requestId=${requestId}&retry=true&async=true`, {
          method: "POST",
          headers: {
            authorization: `Bearer ${Redacted.value(server.token)}`,
            "x-snowflake-authorization-token-type": "PROGRAMMATIC_ACCESS_TOKEN",
            "content-type": "application/json",
            accept: "application/json",
            connection: "close",
            "user-agent": "late/1"
          },
          body: JSON.stringify({ statement: "select pg_sleep(601)" })
        }).then((response) => response.text())
      )
      assert.include(response, "statementHandle")
      assert.strictEqual(yield* server.executions("select pg_sleep(601)"), 0)
    }).pipe(alone)
  )

  it.live("a statement that cannot be noted is not sent", () =>
    Effect.gen(function* () {
      const { driver, server } = yield* one
      const connection = yield* driver.open
      const reason = new QueriesUnavailable({ problem: "The journal is away." })
      const refuse = execution(() => Effect.fail(new QueryError({ reason })))
      const exit = yield* Effect.exit(connection.execute({ sql: "select 1", params: [] }, nowhere, refuse))
      assert.isTrue(Exit.isFailure(exit))
      assert.deepStrictEqual(yield* server.statements, [])
    }).pipe(alone)
  )
})
