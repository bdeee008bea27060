/**
 * Scripts that try to get out, to stay in, or to take more than they may: one a row, with what it tries.
 *
 * An attempt to escape returns `got(…)` of what it came to; anything but `null`, `undefined` or `false` has escaped.
 */

/** What a row tries, and the script. */
export type Row = readonly [tries: string, script: string]

const got = `const got = (value) => value === undefined || value === null || value === false ? "safe" : { escaped: String(value) };`

/** A function with this body. */
const body = (code: string) => `${got} export default async (params, context) => { ${code} }`

/** What an expression comes to. */
const expression = (code: string) => body(`return got(${code})`)

/** What an expression that may throw comes to, and what the error's own functions reach. */
const thrown = (code: string) =>
  body(
    `try { ${code}; return "safe" } catch (e) { try { return got(e.constructor.constructor("return typeof process === 'undefined' ? null : process")()) } catch { return "safe" } }`
  )

export const escapes = (place: { readonly file: string; readonly url: string }): ReadonlyArray<Row> => [
  ["the process", expression("typeof process === 'undefined' ? null : process.env")],
  ["the process on the global object", expression("globalThis.process")],
  [
    "the environment by the constructor of a constructor",
    thrown("return got((function () {}).constructor('return typeof process === \"undefined\" ? null : process')())")
  ],
  [
    "the environment by an async function's constructor",
    expression("await (async () => {}).constructor('return typeof process === \"undefined\" ? null : process')()")
  ],
  [
    "the environment by a generator's constructor",
    expression(
      "(function* () {}).constructor('yield typeof process === \"undefined\" ? null : process')().next().value"
    )
  ],
  [
    "the environment by the console's constructor",
    expression("console.log.constructor('return typeof process === \"undefined\" ? null : process')()")
  ],
  [
    "the environment by a caught host error",
    thrown("console.log({ toString() { throw new Error('x') }, toJSON() { throw new Error('y') } }); null.x")
  ],
  [
    "the environment by the error of an import",
    body(
      "return await import('x').then(() => got('imported'), (e) => got(e.constructor.constructor('return typeof process === \"undefined\" ? null : process.env')()))"
    )
  ],
  ["the environment by eval", expression("eval('typeof process === \"undefined\" ? null : process')")],
  ["the environment by indirect eval", expression("(0, eval)('this').process")],
  ["the environment by the sloppy this", expression("new Function('return this')().process")],
  ["the main module", expression("typeof require === 'undefined' ? null : require('node:fs')")],
  ["a module's require", expression("typeof module === 'undefined' ? null : module.require")],
  [
    "the file system by a dynamic import",
    body(`return await import("node:fs").then((fs) => got(fs.readFileSync), () => "safe")`)
  ],
  [
    "the file system without its prefix",
    body(`return await import("fs").then((fs) => got(fs.readFileSync), () => "safe")`)
  ],
  ["the file system by a static import", `import * as fs from "node:fs"; ${got} export default () => got(fs)`],
  [
    "a file by its path",
    body(`return await import(${JSON.stringify(place.file)}).then((m) => got(JSON.stringify(m)), () => "safe")`)
  ],
  [
    "a file by its URL",
    body(
      `return await import("file://" + ${JSON.stringify(place.file)}).then((m) => got(JSON.stringify(m)), () => "safe")`
    )
  ],
  [
    "a module in a data URL",
    body(`return await import("data:text/javascript,export default 1").then((m) => got(m.default), () => "safe")`)
  ],
  [
    "its own module again",
    body(`return await import("script").then((m) => m.default === undefined ? "safe" : "safe", () => "safe")`)
  ],
  [
    "QuickJS's standard library",
    body(`return await import("std").then((std) => got(std.loadFile(${JSON.stringify(place.file)})), () => "safe")`)
  ],
  [
    "QuickJS's operating system library",
    body(`return await import("os").then((os) => got(os.getcwd()), () => "safe")`)
  ],
  [
    "the standard library on the global object",
    expression("globalThis.std ?? globalThis.os ?? globalThis.bjson ?? globalThis.scriptArgs")
  ],
  [
    "the shell's functions",
    expression(
      "globalThis.print ?? globalThis.load ?? globalThis.loadScript ?? globalThis.read ?? globalThis.evalScript"
    )
  ],
  ["the engine's test functions", expression("globalThis.$262 ?? globalThis.gc ?? globalThis.__loadScript")],
  ["fetch", body(`return typeof fetch === "undefined" ? "safe" : got(await fetch(${JSON.stringify(place.url)}))`)],
  ["XMLHttpRequest", expression("globalThis.XMLHttpRequest")],
  ["WebSocket", expression("globalThis.WebSocket ?? globalThis.EventSource")],
  ["a remote module", body(`return await import(${JSON.stringify(place.url)}).then(got, () => "safe")`)],
  [
    "other runtimes' globals",
    expression("globalThis.Deno ?? globalThis.Bun ?? globalThis.window ?? globalThis.self ?? globalThis.global")
  ],
  [
    "workers and messages",
    expression(
      "globalThis.Worker ?? globalThis.postMessage ?? globalThis.MessageChannel ?? globalThis.BroadcastChannel"
    )
  ],
  ["WebAssembly of its own", expression("globalThis.WebAssembly")],
  ["memory shared with others", expression("globalThis.Atomics")],
  ["timers", expression("globalThis.setTimeout ?? globalThis.setInterval ?? globalThis.setImmediate")],
  ["a fine clock", expression("globalThis.performance")],
  [
    "a clock finer than its steps",
    expression(
      "(() => { const seen = new Set(); for (let i = 0; i < 200000; i++) seen.add(Date.now()); return Array.from(seen).some((t) => t % 100 !== 0) })()"
    )
  ],
  [
    "the place of the machine on earth",
    expression("new Date(2026, 0, 1).getTimezoneOffset() !== 0 || new Date(2026, 6, 1).getTimezoneOffset() !== 0")
  ],
  ["what the program gives, where it gives nothing", expression("globalThis.host")],
  [
    "the worker's functions on the global object",
    expression(
      "Object.getOwnPropertyNames(globalThis).filter((name) => /^_|log$|^(?:write|call|prelude|given)$/.test(name)).join() || null"
    )
  ],
  [
    "the caller of its function",
    expression(
      "(() => { function f() { try { return f.caller ?? arguments.callee.caller } catch { return null } } return f() })()"
    )
  ],
  [
    "paths in a stack",
    expression(
      "/\\/|\\\\\\\\/.test(new Error('x').stack.replace(/script|prelude|native/g, '')) ? new Error('x').stack : null"
    )
  ],
  [
    "the structured stack",
    expression(
      "(() => { let seen = null; Error.prepareStackTrace = (_, frames) => { seen = frames; return '' }; new Error('x').stack; return seen?.[0]?.getThis?.() ?? seen?.[0]?.getFunction?.() ?? null })()"
    )
  ],
  [
    "the worker's functions by a getter on the prototype of all objects",
    `${got} let seen = null; for (const name of ["error", "value", "dispose", "get", "set", "then", "toJSON"]) Object.defineProperty(Object.prototype, name, { get() { if (this !== globalThis && typeof this?.describe === "function") seen = this.describe; return undefined }, configurable: true }); export default () => got(seen)`
  ],
  [
    "the worker's functions by a patched call",
    `${got} let seen = null; const call = Function.prototype.call; Function.prototype.call = function (...all) { seen = all; return call.apply(this, all) }; Function.prototype.apply = function () { seen = arguments }; export default () => { console.log("x"); return got(seen) }`
  ],
  [
    "the worker's functions by a patched slice",
    `${got} let seen = null; String.prototype.slice = function (...all) { seen = all; return "y".repeat(10) }; export default () => { console.log("x"); return got(seen) }`
  ],
  [
    "the worker's functions by a patched JSON",
    `${got} let seen = null; JSON.stringify = (value) => { seen = value; return '{"escaped":1}' }; JSON.parse = (text) => { seen = text }; export default (params) => got(seen)`
  ],
  [
    "the worker's functions by a patched Promise",
    `${got} let seen = null; const then = Promise.prototype.then; Promise.prototype.then = function (...all) { if (/write|call|prelude/.test(all.map(String).join())) seen = all; return then.apply(this, all) }; globalThis.Promise = class extends Promise {}; export default async () => got(seen)`
  ],
  [
    "the worker's functions by an iterator of arrays",
    `${got} let seen = null; Array.prototype[Symbol.iterator] = function* () { seen = this; yield* [] }; export default () => { console.log("a", "b"); return got(seen?.length === 2 ? null : seen) }`
  ],
  [
    "another result, by a result that lies about itself",
    body(
      "return new Proxy({}, { ownKeys() { return ['x'] }, getOwnPropertyDescriptor() { return { enumerable: true, configurable: true, value: 1 } }, get(_, name) { return name === 'toJSON' ? undefined : 'safe' } })"
    )
  ],
  ["the engine by a result whose text is a script", body("return { toJSON() { return 'safe' } }")],
  [
    "the engine by a result that is thenable for ever",
    body("let n = 0; const again = { then(resolve) { n++ < 100 ? resolve(again) : resolve('safe') } }; return again")
  ],
  [
    "the meta data of its module",
    expression(
      "import.meta.url && import.meta.url !== 'script' ? import.meta.url : import.meta.main ?? import.meta.dirname"
    )
  ],
  ["another realm", expression("globalThis.ShadowRealm")],
  [
    "what waits for finalization",
    body("new FinalizationRegistry(() => { globalThis.x = 1 }).register({}, 1); return 'safe'")
  ],
  [
    "the secrets of the random numbers",
    expression(
      "Math.random.seed ?? Object.getOwnPropertyNames(Math.random).filter((name) => !['length', 'name', 'prototype'].includes(name))[0]"
    )
  ],
  [
    "the parameters' parser, by a member called __proto__",
    `${got} export default (params) => got(({}).polluted ?? (Object.getPrototypeOf(params) !== Object.prototype || null))`
  ],
  [
    "the symbols that realms share",
    expression(
      "Object.getOwnPropertySymbols(globalThis).filter((symbol) => symbol !== Symbol.toStringTag).length || null"
    )
  ]
]

/** Scripts that write `on` and never return. */
export const endless: ReadonlyArray<Row> = [
  ["an empty loop", `console.log("on"); for (;;);`],
  ["a loop in the function", `export default () => { console.log("on"); for (;;); }`],
  ["a loop in a catch", `export default () => { console.log("on"); for (;;) { try { throw 1 } catch { for (;;); } } }`],
  [
    "a loop in a finally",
    `export default () => { for (;;) { try { console.log("on"); for (;;); } finally { for (;;); } } }`
  ],
  [
    "a loop that catches its interruption",
    `export default () => { console.log("on"); const f = () => { try { for (;;); } catch { f() } finally { f() } }; f() }`
  ],
  ["microtasks without end", `export default async () => { console.log("on"); for (;;) await null }`],
  [
    "promises that make promises",
    `export default () => { console.log("on"); const again = () => Promise.resolve().then(again); return again() }`
  ],
  [
    "a generator without end",
    `export default () => { console.log("on"); const f = function* () { for (;;) yield 1 }; for (const x of f()); }`
  ],
  [
    "a getter that loops, in the result",
    `export default () => { console.log("on"); return { get x() { for (;;); } } }`
  ],
  ["a toJSON that loops", `export default () => { console.log("on"); return { toJSON() { for (;;); } } }`],
  [
    "a toString that loops, in an error",
    `export default () => { console.log("on"); throw { get message() { for (;;); } } }`
  ],
  [
    "a proxy that never says what it has",
    `export default () => { console.log("on"); return new Proxy({}, { ownKeys() { for (;;); } }) }`
  ],
  [
    "a regular expression that backtracks",
    `export default () => { console.log("on"); return /^(a+)+$/.test("a".repeat(64) + "b") }`
  ],
  [
    "a sort that never agrees",
    `export default () => { console.log("on"); return Array.from({ length: 1000 }, (_, i) => i).sort(() => { for (;;); }) }`
  ],
  [
    "a native that heeds no interruption: indexOf",
    `export default () => { console.log("on"); return Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1) }`
  ],
  [
    "a native that heeds no interruption: lastIndexOf",
    `export default () => { console.log("on"); return Array.prototype.lastIndexOf.call({ length: 2 ** 53 - 1 }, 1) }`
  ],
  [
    "a native that heeds no interruption: includes",
    `export default () => { console.log("on"); return Array.prototype.includes.call({ length: 2 ** 53 - 1 }, 1) }`
  ],
  [
    "a power of two large numbers",
    `export default () => { console.log("on"); let n = 3n; for (;;) { n = n * n % (2n ** 40000n) } }`
  ]
]

/** What an execution that takes too much may come to. */
export const takes = (mebibytes: number) =>
  `export default () => { const a = []; for (let i = 0; i < ${mebibytes}; i++) a.push(new Uint8Array(1 << 20)); return a.length }`

export const bombs: ReadonlyArray<Row> = [
  ["an array that grows", `export default () => { const a = []; for (;;) a.push(new Array(1000).fill(1)) }`],
  ["a string that doubles", `export default () => { let s = "x"; for (;;) s += s }`],
  [
    "a string by its number of repetitions",
    `export default () => { const a = []; for (;;) a.push("x".repeat(2 ** 24) + a.length) }`
  ],
  ["buffers", `export default () => { const a = []; for (;;) a.push(new ArrayBuffer(2 ** 20)) }`],
  ["a typed array of a gigabyte", `export default () => new Uint8Array(2 ** 30).length`],
  ["objects", `export default () => { let o = null; for (;;) o = { o, x: {} } }`],
  ["a map", `export default () => { const m = new Map(); for (let i = 0; ; i++) m.set("key " + i, { i }) }`],
  ["a large number that grows", `export default () => { let n = 2n; for (;;) n = n ** 2n }`],
  ["closures", `export default () => { const f = []; for (;;) f.push(() => f) }`],
  ["promises that wait", `export default async () => { const a = []; for (;;) a.push(new Promise(() => {})) }`],
  ["a regular expression that is long", `export default () => new RegExp("(".repeat(1e6) + ")".repeat(1e6)).test("x")`],
  ["symbols and their names", `export default () => { const o = {}; for (let i = 0; ; i++) o[Symbol("s" + i)] = i }`],
  ["deep recursion", `const f = (n) => 1 + f(n + 1); export default () => f(0)`],
  ["deep recursion through natives", `const f = () => [1].map(f); export default () => f()`],
  [
    "deep recursion in a result",
    `export default () => { let o = {}; for (let i = 0; i < 1e5; i++) o = { o }; return o }`
  ],
  [
    "recursion that catches itself",
    `const f = () => { try { return f() } catch { return 1 } }; export default () => { const a = []; for (let i = 0; i < 100; i++) f(); throw new RangeError("done") }`
  ],
  ["deeply nested source", `export default () => ${"(".repeat(50_000)}1${")".repeat(50_000)}`],
  ["source that builds deeply nested source", `export default () => eval("[".repeat(1e6))`],
  ["a result that is too long", `export default () => "x".repeat(2 ** 21)`],
  [
    "a flood of output",
    `export default () => { for (let i = 0; i < 1e5; i++) console.log("x".repeat(100)); throw new Error("done") }`
  ],
  [
    "one line of output that is too long",
    `export default () => { console.log("x".repeat(2 ** 24)); throw new Error("done") }`
  ],
  [
    "a flood of empty lines",
    `export default () => { for (let i = 0; i < 1e5; i++) console.log(""); throw new Error("done") }`
  ],
  ["a promise that never settles", `export default () => new Promise(() => {})`],
  ["a module that never settles", `await new Promise(() => {}); export default () => 1`],
  ["an error that is too long", `export default () => { throw new Error("x".repeat(2 ** 24)) }`],
  ["null, thrown", `export default () => { throw null }`]
]

/** Changes what a later execution would use, and says that it did. */
export const pollution = `
globalThis.left = 1
Object.prototype.left = 1
Array.prototype.push = () => "left"
JSON.stringify = () => '"left"'
Math.random = () => "left"
console.log = () => "left"
Promise.prototype.then = undefined
Object.freeze(Object.prototype)
Symbol.for("left").toString()
export default () => ({ toJSON: () => 1 })
`

/** What is left of that. */
export const seen = `export default async () => {
  const all = []
  all.push(typeof left, typeof {}.left, typeof Math.random(), typeof JSON.stringify({}), await Promise.resolve("then"), typeof console.log("seen"))
  return all
}`

export const seenClean = ["undefined", "undefined", "number", "string", "then", "undefined"]
