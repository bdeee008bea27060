/** Where something was acquired, as far as the stack of that moment tells. */
import * as Fiber from "effect/Fiber"
import * as References from "effect/References"

/** Frames of those who only pass a call on. */
const passing = /node:|[\\/]node_modules[\\/]|[\\/]holdfast[\\/](src|dist)[\\/]|\(<anonymous>\)$|LeakPlaces|LeakHandles/
const runner = /[\\/]node_modules[\\/](@?vitest|tinypool|tinyexec|birpc|mocha|jest)/

/** What was noted when it was acquired; the text is made when somebody asks. */
export interface Place {
  /** Whether the test runner did it for itself. */
  readonly isRunners: () => boolean
  readonly text: () => string | undefined
  /** Lets go of what was on the stack. */
  readonly settle: () => void
}

const framesOf = (stack: string | undefined) =>
  (stack ?? "")
    .split("\n")
    .filter((line) => /^\s*at /.test(line) && !/LeakPlaces|LeakHandles|at process\.emit /.test(line))

const tidy = (frame: string | undefined) => frame?.replace(/^\s*at\s+(async\s+)?/, "").trim()

const siteOf = (fiber: Fiber.Fiber<unknown, unknown> | undefined): (() => string | undefined) => {
  const frame = fiber?.getRef(References.CurrentStackFrame)
  return () => tidy(framesOf(frame?.stack()).find((line) => !passing.test(line)) ?? framesOf(frame?.stack())[0])
}

/** Where a fiber was when it was begun, or else where it is now: the nearest `Effect.fn` or span. */
export const ofFiber = (fiber: Fiber.Fiber<unknown, unknown>): Place => {
  const begun = siteOf(fiber)
  return { isRunners: () => false, text: () => begun() ?? siteOf(fiber)(), settle: () => undefined }
}

/** Here: the nearest line of the test's or the app's own, or else the `Effect.fn` or span of the running fiber. */
export const here = (): Place => {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 30
  // Its text costs a hundred times as much as the frames, which hold on to what was on the stack until it is made.
  let error: Error | undefined = new Error()
  Error.stackTraceLimit = limit
  let made: string | undefined
  const stack = () => {
    if (error !== undefined) made = error.stack
    error = undefined
    return made
  }
  const site = siteOf(Fiber.getCurrent())
  return {
    isRunners: () => {
      const first = framesOf(stack()).find((line) => !line.includes("node:"))
      return first !== undefined && runner.test(first)
    },
    text: () => tidy(framesOf(stack()).find((line) => !passing.test(line))) ?? site(),
    settle: stack
  }
}
