/**
 * Two copies of `effect` in one program are found out when the first thing is acquired.
 *
 * **Details**
 *
 * Copies of `effect` can run each other's effects, so a program with two of them seems to work. They refuse each other's
 * data: a schema, an error or a layer of one is none to the other, or has other fields where the versions differ. The
 * fiber is what tells: it is made by the copy that runs the program. A fiber that this copy forks under such a fiber
 * carries the other's context, so the context is looked at too. Both are made in one place of `effect` each, and with one
 * copy there is one prototype of each.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

const fiberPrototype: unknown = Object.getPrototypeOf(Effect.runFork(Effect.void))
const contextPrototype: unknown = Object.getPrototypeOf(Context.empty())

/** The program is run by another copy of `effect` than the one that Holdfast imports. It cannot be recovered from. */
export class TwoCopiesOfEffect extends Error {
  override readonly name = "TwoCopiesOfEffect"
  /** Where the copies are that Holdfast imports and that runs the program, as far as that can be known. */
  readonly copies: Copies

  constructor(copies: Copies) {
    super(
      "Two copies of the package effect run in this program, and one cannot use what the other makes. " +
        `Holdfast imports ${copies.holdfast ?? "one"}; the program runs on ${copies.program ?? "another"}. ` +
        "Run `npm ls effect` to see who brings which, make it one version that all of them accept, and run `npm dedupe`. " +
        "A library of yours that uses effect has to name it in peerDependencies."
    )
    this.copies = copies
  }
}

interface Copies {
  readonly holdfast: string | undefined
  readonly program: string | undefined
}

/** The frames of the run loop are on the stack: the other copy called this one. */
const copies = (): Copies => {
  const writable = Object.getOwnPropertyDescriptor(Error, "stackTraceLimit")?.writable === true
  const limit = Error.stackTraceLimit
  if (writable) Error.stackTraceLimit = 100
  const stack = new Error().stack ?? ""
  if (writable) Error.stackTraceLimit = limit
  const holdfast = ownLocation()
  const locations = Array.from(stack.matchAll(frame), ([, location = ""]) => asPath(location))
  return { holdfast, program: locations.find((location) => location !== holdfast) }
}

const frame = /((?:file:\/\/)?[^\s()]*[\\/]effect)[\\/](?:dist|src)[\\/]/g

const asPath = (location: string) => decodeURI(location.replace(/^file:\/\//, ""))

const ownLocation = (): string | undefined => {
  try {
    return asPath(import.meta.resolve("effect/Effect")).replace(/[\\/](?:dist|src)[\\/]Effect\.[jt]s$/, "")
  } catch {
    // A bundle is no place that something can be resolved from.
    return undefined
  }
}

/** Throws where the fiber, or the context that it runs with, is made by another copy of `effect` than Holdfast imports. */
export const check = (fiber: Fiber.Fiber<unknown, unknown>): void => {
  if (Object.getPrototypeOf(fiber) !== fiberPrototype || Object.getPrototypeOf(fiber.context) !== contextPrototype) {
    throw new TwoCopiesOfEffect(copies())
  }
}
