/**
 * A parent of workers that fetch: threads, and processes of a cluster. It holds no session of theirs, and hands none over.
 *
 * Run it: `node --conditions=holdfast-source docs/examples/clientParent.ts`. It brings a server of its own.
 */
import { NodeRuntime } from "@effect/platform-node"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import cluster from "node:cluster"
import { once } from "node:events"
import { createServer } from "node:http"
import { fileURLToPath } from "node:url"
import { Worker } from "node:worker_threads"

// #region parent
const file = fileURLToPath(new URL("./clientWorker.ts", import.meta.url))

const thread = () => {
  const worker = new Worker(file)
  return { worker, send: (message: string) => worker.postMessage(message), kill: () => void worker.terminate() }
}

const clusterProcess = () => {
  cluster.setupPrimary({ exec: file, args: [] })
  const worker = cluster.fork()
  return {
    worker,
    send: (message: string) => void worker.send(message),
    kill: () => void worker.process.kill("SIGKILL")
  }
}

/**
 * A worker for the current scope. At the end it is told to stop, which closes its session. If that takes too long, it is
 * killed.
 */
const scoped = (start: typeof thread | typeof clusterProcess) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const { kill, send, worker } = start()
      const gone = new Promise<void>((resolve) => worker.once("exit", () => resolve()))
      return { kill, send, worker, gone: Effect.promise(() => gone) }
    }),
    ({ gone, kill, send }) =>
      Effect.sync(() => send("stop")).pipe(
        Effect.andThen(gone),
        Effect.timeoutOrElse({ duration: "3 seconds", orElse: () => Effect.andThen(Effect.sync(kill), gone) })
      )
  )

const fetchedBy = (start: typeof thread | typeof clusterProcess) => (url: string) =>
  Effect.gen(function* () {
    const { send, worker } = yield* scoped(start)
    const answer = once(worker, "message")
    send(url)
    return String((yield* Effect.promise(() => answer))[0])
  }).pipe(Effect.scoped)

export const fetchedByThread = fetchedBy(thread)
export const fetchedByProcess = fetchedBy(clusterProcess)
// #endregion

/** A server that answers, except on /never, for the current scope. */
const server = Effect.acquireRelease(
  Effect.promise(async () => {
    const server = createServer(({ url }, response) => void (url === "/never" || response.end(`you asked for ${url}`)))
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    return server
  }),
  (server) => Effect.sync(() => void server.close())
)

const program = Effect.gen(function* () {
  const running = yield* server
  const address = running.address()
  const url = `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`
  for (const fetched of [fetchedByThread, fetchedByProcess]) {
    yield* Console.log(yield* fetched(`${url}/prices`))
    // Given up in the middle of a request.
    yield* Effect.timeoutOption(fetched(`${url}/never`), "500 millis")
    const open = Effect.callback<number>((resume) => {
      running.getConnections((_, count) => resume(Effect.succeed(count)))
    })
    // The server sees their ends a moment later.
    const left = yield* Effect.repeat(open, {
      schedule: Schedule.spaced("5 millis"),
      times: 200,
      until: (count) => count === 0
    })
    yield* Console.log(`${left} connections are left`)
  }
}).pipe(Effect.scoped)

if (import.meta.main && cluster.isPrimary) NodeRuntime.runMain(program)
