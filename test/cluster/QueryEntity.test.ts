import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestRunner from "effect/cluster/TestRunner"
import type * as Redacted from "effect/Redacted"
import { createServer } from "node:net"
import { type Certificates, layerCaller, layerQueries } from "../../docs/examples/cluster.ts"
import * as QueryEntity from "../../src/cluster/QueryEntity.ts"
import { QueryRegistry } from "../../src/query/QueryRegistry.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import * as Certificate from "../support/certificate.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"
import * as Scripted from "../support/scripted.ts"
import * as Shared from "../support/sharedQueries.ts"

const { act, alone, hang } = Scripted

const freePort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(address !== null && typeof address === "object" ? address.port : 0)))
  })
})

/** Shards move at once, and the end of a runner waits for nobody. */
const quick = {
  shardsPerGroup: 4,
  refreshAssignmentsInterval: "100 millis",
  entityTerminationTimeout: "1 second",
  runnerHealthCheckInterval: "1 second"
} as const

/** A caller of the cluster, which is gone at the end of the scope. */
const caller = (url: Redacted.Redacted<string>, certificates: Certificates, options?: QueryEntity.Options) =>
  Effect.flatMap(
    Effect.orDie(
      Layer.build(Layer.fresh(layerCaller(certificates, quick).pipe(Layer.provide(PgClient.layer({ url })))))
    ),
    (context) => Effect.provideContext(QueryEntity.client(options), context)
  )

describe("QueryEntity", () => {
  it.live("a principal submits, watches, reads, lists and cancels its own queries, and nobody else's", () =>
    alone(
      Effect.gen(function* () {
        const { registry } = yield* Scripted.open()
        const context = yield* Layer.build(
          QueryEntity.layer.pipe(
            Layer.provide(Layer.succeed(QueryRegistry, registry)),
            Layer.provideMerge(TestRunner.layer)
          )
        )
        const queriesOf = yield* Effect.provideContext(QueryEntity.client(), context)
        const [alice, bob] = [queriesOf("alice"), queriesOf("bob")]
        const { id } = yield* alice.submit({ statement: act({ rows: 1500 }), retention: "1 minute", session: "s" })
        const record = yield* alice.await(id)
        assert.deepInclude(record, { state: "Succeeded", principal: "alice", session: "s", rowCount: 1500 })
        assert.deepStrictEqual(record, yield* registry.status("alice", id))
        assert.deepStrictEqual((yield* alice.page(id, { offset: 1498, limit: 5 })).rows, [[1498], [1499]])
        assert.lengthOf(yield* Stream.runCollect(alice.rows(id)), 1500)
        const hanging = yield* alice.submit({ statement: hang, session: "t" })
        // One that waits holds up no other.
        const events = yield* Effect.forkChild(Stream.runCollect(alice.events(hanging.id)))
        yield* eventually(alice.status(hanging.id), ({ state }) => state === "Running")
        assert.deepStrictEqual((yield* alice.list({ state: "Running" })).queries.length, 1)
        const calls = [
          Effect.asVoid(bob.status(id)),
          Effect.asVoid(bob.await(id)),
          Effect.asVoid(bob.cancel(hanging.id)),
          Effect.asVoid(bob.page(id, { offset: 0, limit: 1 })),
          Stream.runDrain(bob.events(id))
        ]
        for (const call of calls) {
          assert.strictEqual((yield* Effect.flip(call)).reason._tag, "QueryNotFound")
        }
        assert.deepStrictEqual((yield* bob.list()).queries, [])
        assert.deepStrictEqual(yield* bob.cancelAll(), [])
        assert.deepStrictEqual(yield* alice.cancelAll({ session: "s" }), [])
        assert.deepStrictEqual(
          (yield* alice.cancelAll({ session: "t" })).map(({ id, state }) => [id, state]),
          [[hanging.id, "Canceled"]]
        )
        assert.deepStrictEqual(
          (yield* Fiber.join(events)).map(({ record }) => record.state),
          (yield* alice.status(hanging.id)).transitions.map(({ state }) => state)
        )
        const failed = yield* Effect.flip(alice.submit({ statement: hang, engine: "none" }))
        assert.deepInclude(failed.reason, { _tag: "EngineUnknown", engines: ["default"] })
      })
    )
  )

  it.live(
    "K2, K4 over runners that know each other by certificates: a query outlives the runner that took it in",
    () =>
      alone(
        Effect.gen(function* () {
          const { url } = yield* Shared.database
          const cluster = (yield* freshDatabase).url
          const { authority, cert, key } = Certificate.issued()
          const certificates = { ca: authority, cert, key }
          const runner = Effect.fnUntraced(function* (name: string) {
            const scope = yield* Scope.fork(yield* Effect.scope)
            const port = yield* freePort
            const proxy = yield* FaultProxy.make({ host: "127.0.0.1", port })
            const instance = yield* Scope.provide(
              Shared.start(url, { journal: { instance: name }, registry: { maxRunning: 1 } }),
              scope
            )
            yield* layerQueries({
              address: { host: proxy.host, port: proxy.port },
              listen: { host: "127.0.0.1", port },
              certificates,
              config: quick
            }).pipe(
              Layer.provide([Layer.succeed(QueryRegistry, instance.registry), PgClient.layer({ url: cluster })]),
              Layer.fresh,
              Layer.buildWithScope(scope)
            )
            return { ...instance, proxy, stop: Scope.close(scope, Exit.void) }
          })
          const first = yield* runner("first")
          const alice = (yield* caller(cluster, certificates))("alice")
          const submit = alice.submit({ statement: act({ rows: 1 }), idempotencyKey: "k" })
          const [one, other] = yield* Effect.all([submit, submit], { concurrency: 2 })
          assert.strictEqual(one.id, other.id)
          const running = yield* alice.submit({ statement: hang })
          const waiting = yield* alice.submit({ statement: hang })
          const outcome = yield* Effect.forkChild(alice.await(waiting.id))
          yield* eventually(alice.status(running.id), ({ state }) => state === "Running")

          // A runner that answers nothing holds nobody up for longer than was said.
          const impatient = (yield* caller(cluster, certificates, { answerWithin: "300 millis", retryFor: 0 }))("alice")
          yield* eventually(Effect.option(impatient.status(running.id)), Option.isSome)
          yield* first.proxy.freeze
          const { reason } = yield* Effect.flip(impatient.status(waiting.id))
          assert.strictEqual(reason._tag, "QueriesUnavailable")
          const unsure = yield* Effect.flip(impatient.submit({ statement: hang }))
          assert.include(unsure.message, "may have been taken in")
          yield* first.proxy.thaw

          // A caller that shows no certificate of the authority is not heard.
          const { cert: unknown, key: unknownKey } = Certificate.issued()
          const stranger = (yield* caller(
            cluster,
            { ca: authority, cert: unknown, key: unknownKey },
            { answerWithin: "300 millis", retryFor: 0 }
          ))("alice")
          assert.strictEqual((yield* Effect.flip(stranger.status(waiting.id))).reason._tag, "QueriesUnavailable")

          yield* runner("second")
          yield* first.stop
          // It had not begun: it runs on the other one, and is ended there.
          yield* eventually(
            alice.status(waiting.id),
            ({ instance, state }) => instance === "second" && state === "Running"
          )
          assert.strictEqual((yield* alice.cancel(waiting.id)).state, "Canceled")
          assert.strictEqual((yield* Fiber.join(outcome)).state, "Canceled")
        })
      ),
    30_000
  )
})
