/**
 * As much of WebAssembly as the runtimes use, which the types of Node leave out.
 */

/** Compiled code, which threads share. */
export interface Module {
  readonly module: unique symbol
}

export interface Memory {
  readonly buffer: ArrayBuffer
}

export interface Instance {
  readonly exports: Readonly<Record<string, unknown>>
}

type Imports = Record<string, Record<string, unknown>>

export interface Wasm {
  readonly Memory: new (pages: { readonly initial: number; readonly maximum: number }) => Memory
  readonly compile: (code: Uint8Array) => Promise<Module>
  instantiate: (module: Module, imports: Imports) => Promise<Instance>
}

/** That of this realm. */
export const wasm = (globalThis as unknown as { readonly WebAssembly: Wasm }).WebAssembly
