/**
 * A process with a SQLite database open, as effects.
 *
 * It lives as long as the scope that it was started in, and is ended by force. What is asked of it is answered in order; an
 * effect here is over when it was answered, or when the process is gone.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { ConnectionError, SqlError, UnknownError } from "effect/sql/SqlError"
import { type ChildProcess, fork } from "node:child_process"
import type { SQLInputValue } from "node:sqlite"
import { fileURLToPath } from "node:url"
import * as SteadyClock from "../../lifetime/internal/SteadyClock.ts"
import type { Column, Row } from "../../query/QueryDriver.ts"

/** What the process is told. */
export type Order =
  | { readonly do: "ping" | "commit" | "rollback" | "reset" }
  | { readonly do: "begin"; readonly millis?: number | undefined }
  | { readonly do: "run"; readonly sql: string; readonly params: ReadonlyArray<SQLInputValue> }

/** Why an order failed; `code` is SQLite's result code, `isOurs` where SQLite was not asked. */
export interface Failure {
  readonly message: string
  readonly code?: number
  readonly isOurs: boolean
}

/** What the process says. */
export type Answer =
  | { readonly columns: ReadonlyArray<Column> }
  | { readonly rows: ReadonlyArray<Row> }
  | { readonly done: number }
  | { readonly failed: Failure }

export interface Taker {
  readonly columns: (columns: ReadonlyArray<Column>) => Effect.Effect<void>
  readonly rows: (rows: ReadonlyArray<Row>) => Effect.Effect<void>
}

/** Where a file is, and what may be done with it. */
export interface Target {
  readonly path: string
  readonly mode: "ro" | "rw" | "rwc"
}

export interface Wire {
  readonly pid: number
  readonly isClosed: () => boolean
  readonly heardAt: () => number
  /** Ends the process, and with it what it runs. Returns when it is gone. */
  readonly kill: Effect.Effect<void>
  /** Gives how many rows came, or were changed. */
  readonly tell: (order: Order, taker?: Taker) => Effect.Effect<number, SqlError>
}

/** SQLite's own words, as the cause of an error. */
export class SqliteFailure extends Error {
  readonly errcode: number | undefined
  constructor({ code, message }: Failure) {
    super(message)
    this.errcode = code
  }
}

const lost = new SqlError({
  reason: new ConnectionError({
    cause: new Error("The process of the connection has ended"),
    message: "The process of the connection has ended",
    operation: "execute"
  })
})

const failed = (failure: Failure) =>
  new SqlError({
    reason: new UnknownError({ cause: new SqliteFailure(failure), message: failure.message, operation: "execute" })
  })

const program = new URL(import.meta.url.endsWith(".ts") ? "./SqliteProcess.ts" : "./SqliteProcess.js", import.meta.url)

/** Megabytes of memory for JavaScript. What SQLite takes is its own. */
const maxHeap = 256

const ignore: Taker = { columns: () => Effect.void, rows: () => Effect.void }

/** Ends a process for certain, and waits until it is gone. One that could not be started has no number. */
const end = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill("SIGKILL")
  })

/** Starts one. It opens the file when it is told the first thing. */
export const start = Effect.fnUntraced(function* ({
  mode,
  path
}: Target): Effect.fn.Return<Wire, SqlError, Scope.Scope> {
  const clock = yield* Clock.Clock
  const answers: Array<Answer> = []
  let heardAt = SteadyClock.millis(clock)
  let isGone = false
  let wake: (() => void) | undefined
  const tellNews = () => {
    const woken = wake
    wake = undefined
    woken?.()
  }
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      fork(fileURLToPath(program), [path, mode], {
        // What is in our environment is none of its business.
        env: {},
        cwd: "/",
        execArgv: ["--no-warnings", `--max-old-space-size=${maxHeap}`],
        serialization: "advanced",
        stdio: ["ignore", "ignore", "ignore", "ipc"]
      })
    ),
    (child) => end(child)
  )
  const over = () => {
    isGone = true
    tellNews()
  }
  child.once("exit", over)
  child.once("error", over)
  child.on("message", (answer: Answer) => {
    heardAt = SteadyClock.millis(clock)
    answers.push(answer)
    tellNews()
  })
  const next = Effect.callback<Answer, SqlError>((resume) => {
    const look = () => {
      const answer = answers.shift()
      if (answer !== undefined) resume(Effect.succeed(answer))
      else if (isGone) resume(Effect.fail(lost))
      else wake = look
    }
    look()
  })
  const say = (message: Order | { readonly do: "more" }) =>
    Effect.suspend(() => {
      if (isGone || !child.connected) return Effect.fail(lost)
      // Where it is gone by then, that is heard otherwise.
      child.send(message, () => undefined)
      return Effect.void
    })
  const tell = (order: Order, { columns, rows }: Taker = ignore): Effect.Effect<number, SqlError> => {
    const step: Effect.Effect<number, SqlError> = Effect.flatMap(next, (answer) => {
      if ("done" in answer) return Effect.succeed(answer.done)
      if ("failed" in answer) return Effect.fail(failed(answer.failed))
      if ("columns" in answer) return Effect.andThen(columns(answer.columns), step)
      return rows(answer.rows).pipe(Effect.andThen(say({ do: "more" })), Effect.andThen(step))
    })
    return Effect.andThen(say(order), step)
  }
  return {
    pid: child.pid ?? 0,
    isClosed: () => isGone,
    heardAt: () => heardAt,
    kill: end(child),
    tell
  }
})
