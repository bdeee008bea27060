import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import cluster, { type Worker as ClusterWorker } from "node:cluster"
import { once } from "node:events"
import { promisify } from "node:util"
import { Worker } from "node:worker_threads"
import {
  explain,
  layerAccounts,
  layerGuarded,
  patientPrice,
  price,
  priceFor,
  pricedInJobs,
  pricedOnce
} from "../../docs/examples/clientSessions.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import { eventually } from "../support/conditions.ts"
import * as Servers from "../support/httpServers.ts"
import { fileURLToPath } from "node:url"
import * as ClientSession from "../../src/client/ClientSession.ts"

const file = fileURLToPath(new URL("../../docs/examples/clientWorker.ts", import.meta.url))
const execArgv = ["--conditions=holdfast-source"]
const handles = () =>
  process
    .getActiveResourcesInfo()
    .filter((kind) => kind === "MessagePort" || kind === "ProcessWrap")
    .toSorted()

describe("the example of client sessions", () => {
  it.live("asks once, explains failures, asks again, and keeps accounts apart", () =>
    Effect.gen(function* () {
      const server = yield* Servers.good
      assert.strictEqual(yield* pricedOnce(server.url), "GET /")
      yield* server.allClosed
      const error = yield* Effect.flip(Effect.catchTag(pricedOnce("http://127.0.0.1:1"), "ClientError", Effect.die))
      assert.deepStrictEqual(explain(error), { text: "The shop is away (connect).", again: true })
      const patient = Effect.provide(patientPrice(server.url), ClientSession.layer())
      assert.strictEqual(yield* patient, "GET /")
      yield* server.allClosed
      const before = server.accepted()
      yield* pricedInJobs(Array.from({ length: 9 }, () => server.url))
      assert.isAtMost(server.accepted(), before + 2)
      const six = Effect.forEach([1, 2, 3, 4, 5, 6], () => price(server.url))
      const [took] = yield* Effect.timed(Effect.provide(six, layerGuarded))
      assert.isAtLeast(Duration.toMillis(took), 500)
      const accounts = Effect.all([priceFor("alice", server.url), priceFor("trial-bob", server.url)])
      assert.deepStrictEqual(yield* Effect.provide(accounts, layerAccounts), ["GET /", "GET /"])
      yield* server.allClosed
      assert.deepStrictEqual(yield* Effect.flatMap(Ledger.Ledger, (ledger) => ledger.holdings), [])
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )

  it.live("a worker thread ends with its session, and one that is killed leaves nothing behind", () =>
    Effect.gen(function* () {
      const good = yield* Servers.good
      const silent = yield* Servers.silent
      const before = handles()
      const started = () => new Worker(file, { execArgv })

      const one = started()
      one.postMessage(good.url)
      const [answer] = yield* Effect.promise(() => once(one, "message"))
      assert.strictEqual(answer, "GET /")
      one.postMessage("stop")
      const [code] = yield* Effect.promise(() => once(one, "exit"))
      assert.strictEqual(code, 0)
      yield* good.allClosed

      const other = started()
      other.postMessage(silent.url)
      yield* eventually(Effect.sync(silent.sockets), (open) => open === 1)
      yield* Effect.promise(() => other.terminate())
      yield* silent.allClosed
      yield* eventually(Effect.sync(handles), (now) => now.length <= before.length)
    })
  )

  it.live("a parent has workers of both kinds, gives up on them in the middle of a request, and exits by itself", () =>
    Effect.gen(function* () {
      const args = ["--conditions=holdfast-source", "docs/examples/clientParent.ts"]
      const { stderr, stdout } = yield* Effect.promise(() => promisify(execFile)(process.execPath, args))
      const twice = "you asked for /prices\n0 connections are left\n".repeat(2)
      assert.deepStrictEqual({ stderr, stdout }, { stderr: "", stdout: twice })
    })
  )

  it.live("so does a process of a cluster, also when it is killed in the middle of a request", () =>
    Effect.gen(function* () {
      const good = yield* Servers.good
      const silent = yield* Servers.silent
      const before = handles()
      cluster.setupPrimary({ exec: file, execArgv, args: [] })
      const started = Effect.promise(async () => {
        const worker: ClusterWorker = cluster.fork()
        await once(worker, "online")
        return worker
      })

      const one = yield* started
      const answered = once(one, "message")
      one.send(good.url)
      const [answer] = yield* Effect.promise(() => answered)
      assert.strictEqual(answer, "GET /")
      const left = once(one, "exit")
      one.send("stop")
      const [code] = yield* Effect.promise(() => left)
      assert.strictEqual(code, 0)
      yield* good.allClosed

      const other = yield* started
      other.send(silent.url)
      yield* eventually(Effect.sync(silent.sockets), (open) => open === 1)
      const killed = once(other, "exit")
      process.kill(other.process.pid ?? 0, "SIGKILL")
      yield* Effect.promise(() => killed)
      yield* silent.allClosed
      assert.deepStrictEqual(Object.keys(cluster.workers ?? {}), [])
      yield* eventually(Effect.sync(handles), (now) => now.length <= before.length)
    })
  )
})
