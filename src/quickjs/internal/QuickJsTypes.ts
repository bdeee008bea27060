/**
 * Takes the types out of TypeScript: what remains is JavaScript with each token in its place, so that errors have their line and column.
 *
 * The package is loaded when the first script needs it, and lives as long as the thread.
 */
import type { Thrown } from "../../function/internal/SandboxProtocol.ts"

interface Refused {
  readonly message: string
  readonly startLine?: number
  /** From 0. */
  readonly startColumn?: number
}

const isRefused = (error: unknown): error is Refused =>
  typeof error === "object" && error !== null && "startLine" in error && "message" in error

/** The JavaScript of a script, or what is wrong with it. */
export const strip = async (script: string): Promise<{ readonly code: string } | { readonly thrown: Thrown }> => {
  const { transformSync } = await import("amaro")
  try {
    return { code: transformSync(script, { mode: "strip-only" }).code }
  } catch (error) {
    if (!isRefused(error)) throw error
    const { message, startColumn, startLine } = error
    const column = startColumn === undefined ? undefined : startColumn + 1
    return { thrown: { name: "SyntaxError", problem: message.slice(0, 4096), line: startLine, column } }
  }
}
