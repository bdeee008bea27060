/**
 * What it costs a request that somebody looks at it: `npm run bench -- observing`.
 *
 * Processor time of this process, with no socket, no database and no other process: what a server does more for a request with
 * metrics than without, and for a question to the session store; and what traces cost that are switched off. Routes and statuses
 * take turns as they do in a service. What something costs is the difference to the same loop with nobody who looks. *Traces for
 * nobody* are what Effect makes of itself.
 */
import { IncomingMessage, ServerResponse } from "node:http"
import { Socket } from "node:net"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as AccessLog from "../../src/server/AccessLog.ts"
import * as LogFormat from "../../src/server/LogFormat.ts"
import * as Logging from "../../src/server/Logging.ts"
import * as RequestMetrics from "../../src/server/RequestMetrics.ts"
import * as RequestObservers from "../../src/server/RequestObservers.ts"
import * as SessionStoreMetrics from "../../src/server/SessionStoreMetrics.ts"
import * as Telemetry from "../../src/server/Telemetry.ts"
import * as MemorySessionStore from "../../src/session/MemorySessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { range, takeTurns } from "./measure.ts"

const times = 100_000
const address = Option.some("127.0.0.1")

/** Microseconds of processor time of one turn. */
const perTurn = async (turns: () => Promise<void>) => {
  const before = process.cpuUsage()
  await turns()
  const { system, user } = process.cpuUsage(before)
  return (system + user) / times
}

const seen = ["/session", "/session/data", "/queries/:id", "/queries", "/health/live"].flatMap((route) =>
  [
    ["GET", 200],
    ["POST", 202],
    ["GET", 401]
  ].map(([method, status]) => ({ method: String(method), status: Number(status), route }))
)

/** A request that is answered, from its headers to its end, as the listener and the router see it. */
const requests = (observers: ReadonlyArray<RequestObservers.Observer>) => (): Promise<number> => {
  const watch = RequestObservers.watcher(observers)
  const socket = new Socket()
  const handled = watch === undefined ? Effect.void : RequestObservers.routed(Effect.void)
  const contexts = seen.map(({ route }) =>
    Context.make(HttpRouter.RouteContext, { params: {}, route: { path: route } } as never)
  )
  return perTurn(async () => {
    for (let turn = 0; turn < times; turn++) {
      const { method, status } = seen[turn % seen.length] as (typeof seen)[number]
      const request = new IncomingMessage(socket)
      request.method = method
      request.url = "/"
      const response = new ServerResponse(request)
      response.statusCode = status
      watch?.(request, response)
      // As NodeHttpServer makes it, but for what nobody here reads.
      const served = { source: request, headers: request.headers, remoteAddress: address } as never
      if (watch !== undefined) RequestObservers.came(served)
      const context = contexts[turn % contexts.length] as Context.Context<never>
      Effect.runSyncWith(Context.add(context, HttpServerRequest.HttpServerRequest, served))(handled)
      response.emit("close")
    }
  })
}

/** A call that answers at once. */
const calls = (call: Effect.Effect<unknown>) => (): Promise<number> =>
  perTurn(async () => {
    await Effect.runPromise(
      Effect.gen(function* () {
        for (let turn = 0; turn < times; turn++) yield* call
      })
    )
  })

/** A question to a store that answers at once. */
const questions = (store: SessionStore["Service"]) => (): Promise<number> =>
  perTurn(async () => {
    await Effect.runPromise(
      Effect.gen(function* () {
        for (let turn = 0; turn < times; turn += 2) {
          yield* store.ping
          yield* store.epoch("alice")
        }
      })
    )
  })

export const run = async () => {
  const registry: Layer.Layer<never> = Layer.succeed(Metric.MetricRegistry, new Map())
  const now = DateTime.nowUnsafe()
  const quick = Layer.effect(
    SessionStore,
    Effect.map(SessionStore, (store) => ({
      ...store,
      ping: Effect.succeed(now),
      epoch: () => Effect.succeed(0) as never
    }))
  ).pipe(Layer.provide(MemorySessionStore.layer))
  const store = (layer: Layer.Layer<SessionStore>) =>
    Effect.runPromise(Effect.scoped(Effect.map(Layer.build(layer), (context) => Context.get(context, SessionStore))))
  const measured = await store(SessionStoreMetrics.layer(quick).pipe(Layer.provide(registry)))
  const metrics = await Effect.runPromise(Effect.provide(RequestMetrics.make, registry))
  let written = 0
  const log = Logging.Log.of({
    later: (entry) => void (written += LogFormat.logfmt(entry).length),
    announce: () => Effect.void
  })
  const accessLog = await Effect.runPromise(Effect.provideService(AccessLog.make, Logging.Log, log))
  const request = HttpServerRequest.fromWeb(new Request("http://localhost/session"))
  const answered = Effect.withFiber(() => Effect.succeed(HttpServerResponse.empty()))
  const asked = (call: Effect.Effect<unknown, never, HttpServerRequest.HttpServerRequest>) =>
    Effect.provideService(call, HttpServerRequest.HttpServerRequest, request)
  const traced = asked(HttpMiddleware.tracer(answered))
  const results = await takeTurns(
    {
      "a call, no tracer": calls(asked(answered)),
      "a call, traces off": calls(
        Effect.provide(traced, await Effect.runPromise(Effect.scoped(Layer.build(Telemetry.layer))))
      ),
      "a call, traces for nobody": calls(traced),
      "a request, nobody looks": requests([]),
      "a request, somebody looks": requests([{ over: () => undefined }]),
      "a request, metrics": requests([metrics]),
      "a request, access log": requests([accessLog]),
      "a question to the store, nobody looks": questions(await store(quick)),
      "a question to the store, metrics": questions(measured)
    },
    7,
    2
  )
  console.table(Array.from(results, ([name, values]) => ({ name, "µs of processor time": range(values, 2) })))
}
