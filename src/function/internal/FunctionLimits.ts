/**
 * How much functions and executions may take, and for how long. Every limit is finite.
 */
import * as Duration from "effect/Duration"
import { availableParallelism } from "node:os"
import type { Bounds } from "../../lifetime/internal/Entries.ts"
import type { Options as Admission } from "../../lifetime/internal/Admission.ts"
import type { Room } from "../FunctionStore.ts"

/** Limits and times. */
export interface Options {
  /** Executions that run at a time. Default: 4, or as many as the machine has processors. Give the runtime as many workers. */
  readonly maxRunning?: number | undefined
  /** Of one principal. Default: `maxRunning`, less what `reservedRunning` keeps for others. */
  readonly maxRunningPerPrincipal?: number | undefined
  /**
   * Of `maxRunning`, kept for principals who have nothing running: so many principals find a place at once, whatever others run.
   * Default: half of `maxRunning`, rounded up, and at least 2 where there are as many. 0 is for an app with one principal.
   */
  readonly reservedRunning?: number | undefined
  /** Executions that wait. Default: 1,000, a tenth of them for principals who have nothing waiting. */
  readonly maxWaiting?: number | undefined
  /** Of one principal. Default: 100. */
  readonly maxWaitingPerPrincipal?: number | undefined
  /**
   * What scripts, contexts and parameters of executions that wait or run may take up in memory together, in bytes, roughly; a
   * quarter of it is cut into shares, so that 16 principals each find room for theirs. Default: 128 MiB.
   */
  readonly maxWaitingBytes?: number | undefined
  /** Those of one principal. The first is always taken in. Default: 16 MiB. */
  readonly maxWaitingBytesPerPrincipal?: number | undefined
  /** Of an execution that asks for none: until the outcome, waiting included. Default: 30 seconds. */
  readonly deadline?: Duration.Input | undefined
  /** A longer deadline of an execution is cut to this. Default: `deadline`. */
  readonly maxDeadline?: Duration.Input | undefined
  /** After so long without an execution a function is gone. Default: 1 hour. */
  readonly idleTimeout?: Duration.Input | undefined
  /** After so long a function is gone in any case. Default: 7 days. */
  readonly absoluteTimeout?: Duration.Input | undefined
  /** Bytes of a script in UTF-8. Default: 256 KiB. */
  readonly maxScriptBytes?: number | undefined
  /** Bytes of a context. Default: 256 KiB. */
  readonly maxContextBytes?: number | undefined
  /** Bytes of the parameters of an execution. Default: 1 MiB. */
  readonly maxParamsBytes?: number | undefined
  /** Bytes of a result. Default: 1 MiB. */
  readonly maxResultBytes?: number | undefined
  /** Bytes of what a script writes that are kept, its lines counted with 16 each. Default: 64 KiB. */
  readonly maxConsoleBytes?: number | undefined
  /** Functions that one principal may have. Default: 10,000. */
  readonly maxFunctionsPerPrincipal?: number | undefined
  /** Bytes of their scripts and contexts together. Default: 256 MiB. */
  readonly maxFunctionBytesPerPrincipal?: number | undefined
  /** How long the record of an execution stays after its end. Default: 15 minutes. */
  readonly retention?: Duration.Input | undefined
  /** Records of executions that are over; one more, and the oldest is treated as past its retention. Default: 10,000. */
  readonly maxKept?: number | undefined
  /** Of one principal. Default: 1,000. */
  readonly maxKeptPerPrincipal?: number | undefined
  /** Characters that their results, consoles and errors may have together, a quarter of them one principal's. Default: 64 Mi. */
  readonly maxKeptText?: number | undefined
  /** How long closing waits for executions before it cancels them. Default: half a second. */
  readonly drain?: Duration.Input | undefined
  /** How long closing takes at most, `drain` included. Default: 5 seconds. */
  readonly closeTimeout?: Duration.Input | undefined
}

const kibibyte = 1024
const mebibyte = 1024 * 1024

/** How many executions run at a time where nobody says. */
export const usualRunning = (): number => Math.max(4, availableParallelism())

/** The limits as they are in force. */
export const make = (options: Options) => {
  const deadline = Duration.fromInputUnsafe(options.deadline ?? Duration.seconds(30))
  const maxDeadline = Duration.fromInputUnsafe(options.maxDeadline ?? deadline)
  const maxKept = options.maxKept ?? 10_000
  const maxKeptText = options.maxKeptText ?? 64 * mebibyte
  const kept: Bounds = {
    all: { count: maxKept, text: maxKeptText },
    ofPrincipal: { count: Math.min(options.maxKeptPerPrincipal ?? 1000, maxKept), text: maxKeptText / 4 }
  }
  const admission: Admission = { ...options, maxRunning: options.maxRunning ?? usualRunning() }
  const room: Room = {
    functions: options.maxFunctionsPerPrincipal ?? 10_000,
    bytes: options.maxFunctionBytesPerPrincipal ?? 256 * mebibyte
  }
  return {
    admission,
    deadline: Duration.min(deadline, maxDeadline),
    maxDeadline,
    timeouts: {
      idleTimeout: Duration.fromInputUnsafe(options.idleTimeout ?? Duration.hours(1)),
      absoluteTimeout: Duration.fromInputUnsafe(options.absoluteTimeout ?? Duration.days(7))
    },
    scriptBytes: options.maxScriptBytes ?? 256 * kibibyte,
    contextBytes: options.maxContextBytes ?? 256 * kibibyte,
    paramsBytes: options.maxParamsBytes ?? mebibyte,
    resultBytes: options.maxResultBytes ?? mebibyte,
    consoleBytes: options.maxConsoleBytes ?? 64 * kibibyte,
    room,
    kept,
    retention: Duration.fromInputUnsafe(options.retention ?? Duration.minutes(15)),
    drain: Duration.fromInputUnsafe(options.drain ?? Duration.millis(500)),
    closeTimeout: Duration.fromInputUnsafe(options.closeTimeout ?? Duration.seconds(5))
  }
}
