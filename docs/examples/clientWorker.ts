/**
 * A worker thread, or a process of a cluster, that fetches what it is told to. It makes its own session and ends with it: a
 * session belongs to the event loop that made it, and cannot be handed over.
 */
import cluster from "node:cluster"
import { parentPort } from "node:worker_threads"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Stream from "effect/Stream"
import * as Queue from "effect/Queue"
import * as ClientSession from "holdfast/client/ClientSession"

// #region worker
/** A thread talks to its parent through a port, a process through a channel. */
const parent = {
  tell: (message: unknown) => (parentPort === null ? process.send?.(message) : parentPort.postMessage(message)),
  hear: (listener: (message: unknown) => void) => (parentPort ?? process).on("message", listener),
  leave: () => (parentPort === null ? cluster.worker?.disconnect() : parentPort.close())
}

/**
 * Fetches each URL that it receives, until it receives "stop". Then running requests are interrupted and connections
 * closed.
 */
const work = Effect.gen(function* () {
  const client = yield* HttpClient.HttpClient
  const stop = yield* Deferred.make<void>()
  const urls = Stream.callback<string>((queue) =>
    Effect.sync(() =>
      parent.hear((message) => {
        if (message === "stop") Deferred.doneUnsafe(stop, Effect.void)
        else Queue.offerUnsafe(queue, String(message))
      })
    )
  )
  const fetched = (url: string) =>
    client.get(url).pipe(
      Effect.flatMap(({ text }) => text),
      Effect.catch((error) => Effect.succeed(error.message)),
      Effect.map(parent.tell)
    )
  yield* Effect.raceFirst(Stream.runForEach(urls, fetched), Deferred.await(stop))
})

await Effect.runPromise(Effect.provide(work, ClientSession.layer({ grace: "1 second" })))
parent.leave()
// #endregion
