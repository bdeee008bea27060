/**
 * Worker threads that run scripts, for the runtimes.
 *
 * A worker lives from when a sandbox needs one until it is idle for long, is used up, or the pool closes with its scope. A script that is to stop is told
 * so by a flag in shared memory, which stops most of them in a millisecond; 100 ms later its thread is terminated, whatever it does.
 * Both are waited for before the sandbox is released.
 *
 * **Details**
 *
 * Times are the machine's own: a thread does not stop sooner on a test's clock.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Pool from "effect/Pool"
import * as Scope from "effect/Scope"
import { availableParallelism } from "node:os"
import { Worker } from "node:worker_threads"
import * as Ledger from "../../lifetime/Ledger.ts"
import { FunctionError, FunctionsUnavailable, SandboxLost } from "../FunctionError.ts"
import type { Call, Sandbox, Script } from "../FunctionRuntime.ts"
import type { CallRefused, HostCall } from "../HostCall.ts"
import { exitOf, type Limits } from "./SandboxOutcome.ts"
import type { Called, Done, FromWorker, Given, Outcome, Request, ToWorker } from "./SandboxProtocol.ts"

/** What to start, and how many. */
export interface Options {
  /** For the ledger and the log, such as `quickjs`. */
  readonly name: string
  /** What a worker runs. */
  readonly file: URL
  /** More that it is started with. */
  readonly workerData: Readonly<Record<string, unknown>>
  /** Workers at a time, of which one is kept when none is used. */
  readonly maxWorkers: number
  /** After so long without a script the others end. */
  readonly idleTime: Duration.Input
  /** What a script may have. */
  readonly memoryBytes: number
  /** What scripts may call. */
  readonly host: Readonly<Record<string, HostCall>>
}

const startMillis = 30_000

/** How long a script that was told to stop may go on. */
const stopMillis = 100

/** The heap of the thread itself, around the memory of the script. */
const heapMegabytes = 128

/**
 * How far the priority of a worker is below the program's: by 10, where two of them share a processor. The more there are, the lower
 * each is, so that together they take no more from the program: Linux gives a thread 1.25 times the part of one that is nicer by 1.
 */
const nicenessOf = (maxWorkers: number): number => {
  const share = maxWorkers / (2 * availableParallelism())
  return 10 + Math.max(0, Math.ceil(Math.log(share) / Math.log(1.25)))
}

/** Nothing of the program's, but where its compiled code is kept, if it is: threads start in half the time then. */
const environment = () => {
  const { NODE_COMPILE_CACHE } = process.env
  return NODE_COMPILE_CACHE === undefined ? {} : { NODE_COMPILE_CACHE }
}

/** A worker, and what runs in it now. */
class Executor {
  readonly id: string
  readonly worker: Worker
  readonly flag: Int32Array
  isWorn = false
  requests = 0
  /** Why it is gone. */
  gone: Outcome | undefined
  listener: ((message: FromWorker | { readonly type: "gone"; readonly outcome: Outcome }) => void) | undefined

  constructor(id: string, { file, host, maxWorkers, memoryBytes, workerData }: Options) {
    this.id = id
    const flag = new SharedArrayBuffer(4)
    this.flag = new Int32Array(flag)
    this.worker = new Worker(file, {
      workerData: {
        ...workerData,
        flag,
        memoryBytes,
        niceness: nicenessOf(maxWorkers),
        host: Object.keys(host)
      } satisfies Given,
      env: environment(),
      argv: [],
      execArgv: [],
      stdout: true,
      stderr: true,
      stdin: false,
      resourceLimits: { maxOldGenerationSizeMb: heapMegabytes, maxYoungGenerationSizeMb: 16 }
    })
    this.worker.on("message", (message: FromWorker) => this.listener?.(message))
    this.worker.on("messageerror", () => this.lose({ type: "broken", problem: "Its answer could not be read." }))
    this.worker.on("error", (error: Error & { readonly code?: string }) =>
      this.lose(
        error.code === "ERR_WORKER_OUT_OF_MEMORY" ? { type: "memory" } : { type: "broken", problem: error.message }
      )
    )
    this.worker.on("exit", () => this.lose({ type: "broken", problem: "Its thread has ended." }))
  }

  private lose(outcome: Outcome): void {
    this.isWorn = true
    this.gone ??= outcome
    this.listener?.({ type: "gone", outcome: this.gone })
  }

  send(message: ToWorker): void {
    this.worker.postMessage(message)
  }

  /** Tells the script to stop, and ends its thread if it does not. Returns how to call that off. */
  stop(id: number): () => void {
    Atomics.store(this.flag, 0, id)
    this.send({ type: "stop", id })
    const timer = setTimeout(() => {
      // Also where the script has stopped and its answer is on the way: the thread is of no use to anybody.
      this.isWorn = true
      void this.worker.terminate()
    }, stopMillis)
    return () => clearTimeout(timer)
  }
}

const notStarted = (name: string, problem: string) =>
  new FunctionError({
    reason: new FunctionsUnavailable({ problem: `No worker of ${name} could be started: ${problem}` })
  })

/** Starts a worker. A thread that the system refuses is thrown by Node at once. */
const start = (id: string, options: Options) =>
  Effect.try({
    try: () => new Executor(id, options),
    catch: (error) => notStarted(options.name, error instanceof Error ? error.message : String(error))
  })

const ready = (executor: Executor, name: string) =>
  Effect.callback<Executor, FunctionError>((resume) => {
    const end = (result: Effect.Effect<Executor, FunctionError>) => {
      clearTimeout(timer)
      executor.listener = undefined
      resume(result)
    }
    const fail = (problem: string) =>
      end(
        Effect.andThen(
          Effect.promise(() => executor.worker.terminate()),
          Effect.fail(notStarted(name, problem))
        )
      )
    const timer = setTimeout(() => fail(`it was not ready within ${startMillis} ms.`), startMillis)
    executor.listener = (message) => {
      if (message.type === "ready") end(Effect.succeed(executor))
      else if (message.type === "gone") fail(message.outcome.type === "broken" ? message.outcome.problem : "no memory.")
    }
  })

/** Makes the workers' pool, which closes with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const { host, memoryBytes, name } = options
  let count = 0
  const acquire = Ledger.hold(
    (executor: Executor) => ({ kind: "worker", id: executor.id, attributes: { runtime: name } }),
    Effect.flatMap(
      Effect.suspend(() => start(`${name} ${++count}`, options)),
      (executor) => ready(executor, name)
    ),
    ({ worker }) => Effect.promise(() => worker.terminate())
  )
  const pool = yield* Pool.makeWithTTL({
    acquire,
    min: Math.min(1, options.maxWorkers),
    max: options.maxWorkers,
    timeToLive: options.idleTime
  })

  const ask = Effect.fnUntraced(function* (
    executor: Executor,
    asked: Omit<Request, "id">,
    { onConsole, onDone }: Pick<Call, "onConsole" | "onDone">
  ) {
    const limits: Limits = { memoryBytes, resultBytes: asked.resultBytes }
    const id = ++executor.requests
    const answered = Deferred.makeUnsafe<Exit.Exit<string, FunctionError> | undefined>()
    // Of its own, so that what the script called ends after it was stopped, and before the sandbox is released.
    const calls = yield* Scope.fork(yield* Effect.scope, "parallel")
    const services = yield* Effect.context<never>()
    let over = false
    let stopping = false

    const settle = (outcome: Outcome) => {
      if (over) return
      over = true
      // A thread that was ended by force says nothing of its script.
      const exit = exitOf(stopping && outcome.type === "broken" ? { type: "stopped" } : outcome, limits)
      if (exit !== undefined) onDone(exit)
      Deferred.doneUnsafe(answered, Exit.succeed(exit))
    }
    const reply = (call: number) => (exit: Exit.Exit<string, CallRefused>) => {
      if (over || executor.gone !== undefined) return
      const failure = Exit.isFailure(exit) ? Exit.findErrorOption(exit) : undefined
      const problem = failure?._tag === "Some" ? failure.value.message : "The call was interrupted."
      executor.send({
        type: "reply",
        id,
        call,
        ok: exit._tag === "Success",
        text: exit._tag === "Success" ? exit.value : problem
      })
    }
    const called = ({ args, call, name }: Called) => {
      if (over) return
      const entry = Object.hasOwn(host, name) ? host[name] : undefined
      if (entry === undefined) return
      const work = Effect.runForkWith(services)(Effect.andThen(Effect.yieldNow, entry.call(args)))
      Fiber.runIn(work, calls).addObserver(reply(call))
    }
    executor.listener = (message) => {
      if (message.type === "gone") settle(message.outcome)
      else if (message.type === "console" && message.id === id) onConsole(message.line)
      else if (message.type === "call" && message.id === id) called(message)
      else if (message.type === "done" && message.id === id) {
        executor.isWorn ||= (message satisfies Done).retire
        settle(message.outcome)
      }
    }
    const stopped = Effect.suspend(() => {
      stopping = true
      const callOff = executor.stop(id)
      return Effect.ensuring(Effect.exit(Deferred.await(answered)), Effect.sync(callOff))
    })
    const answer = Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        if (executor.gone === undefined) executor.send({ ...asked, id })
        else settle(executor.gone)
        return Effect.onInterrupt(restore(Deferred.await(answered)), () => stopped)
      })
    )
    return yield* Effect.flatMap(
      answer,
      (exit) =>
        exit ??
        Effect.fail(new FunctionError({ reason: new SandboxLost({ problem: "It stopped of its own accord." }) }))
    )
  }, Effect.scoped)

  const sandboxOf = (executor: Executor): Sandbox => ({
    id: executor.id,
    check: ({ language, script }: Script) =>
      Effect.asVoid(
        ask(
          executor,
          { type: "check", language, script, params: "null", context: "null", resultBytes: 0, consoleBytes: 0 },
          { onConsole: () => undefined, onDone: () => undefined }
        )
      ),
    run: ({ onConsole, onDone, ...call }: Call) => {
      const { consoleBytes, context, language, params, resultBytes, script } = call
      return ask(
        executor,
        { type: "run", language, script, params, context, resultBytes, consoleBytes },
        { onConsole, onDone }
      )
    }
  })

  /** A worker for one execution. One that is worn is ended when it is released, and another takes its place. */
  const open: Effect.Effect<Sandbox, FunctionError, Scope.Scope> = Effect.flatMap(Pool.get(pool), (executor) =>
    Ledger.hold({ kind: "sandbox", id: executor.id }, Effect.succeed(sandboxOf(executor)), () =>
      Effect.suspend(() => {
        executor.listener = undefined
        return executor.isWorn || executor.gone !== undefined ? Pool.invalidate(pool, executor) : Effect.void
      })
    )
  )
  return { open }
})

/** Calls that need nothing any more. */
export const provideHost = <R>(
  host: Readonly<Record<string, HostCall<R>>>,
  context: Context.Context<R>
): Readonly<Record<string, HostCall>> =>
  Object.fromEntries(
    Object.entries(host).map(([name, { call }]) => [
      name,
      {
        // What the execution's fiber knows comes first: to whom it belongs.
        call: (args) =>
          Effect.updateContext(call(args), (services: Context.Context<never>) => Context.merge(context, services))
      } satisfies HostCall
    ])
  )
