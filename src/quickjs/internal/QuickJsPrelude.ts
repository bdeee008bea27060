/**
 * What is in a QuickJS context before the script: it is made for one execution and ends with it.
 *
 * **Details**
 *
 * A script may change every object that it finds. What the worker calls afterwards therefore uses nothing that the script can
 * reach: it is taken here, before.
 */

/**
 * The source of a function of the worker's `write` and `call`, the names of what may be called, the length of a result and four
 * random numbers. It returns what reads errors and what calls the script.
 *
 * The answer of `invoke` begins with a letter: `r` for a result in JSON, `n` for one that has none, `l` for one that is too long.
 */
export const prelude = `((write, call, names, limit, a, b, c, d) => {
  const { parse, stringify } = JSON
  const { freeze, defineProperty } = Object
  const Text = String
  const NoError = Error
  const bind = Function.prototype.bind
  const uncurry = bind.bind(Function.prototype.call)
  const slice = uncurry(String.prototype.slice)
  const longest = 4096
  const isObject = (value) => (typeof value === "object" && value !== null) || typeof value === "function"
  const attempt = (get) => {
    try {
      const value = get()
      return value === undefined ? undefined : slice(Text(value), 0, longest)
    } catch {
      return undefined
    }
  }
  const errorText = (error) => {
    const stack = attempt(() => error.stack)
    return (attempt(() => error.name) ?? "Error") + ": " + (attempt(() => error.message) ?? "") + (stack ? "\\n" + stack : "")
  }
  const show = (value) => {
    if (typeof value === "string") return value
    try {
      if (value instanceof NoError) return errorText(value)
      return isObject(value) ? (stringify(value) ?? Text(value)) : Text(value)
    } catch {
      return "[cannot be shown]"
    }
  }
  const console = {}
  const writer = (level) => (...values) => {
    let text = ""
    for (let at = 0; at < values.length; at++) text += (at === 0 ? "" : " ") + show(values[at])
    write(level, slice(text, 0, 1048576))
  }
  console.log = writer("log")
  console.info = writer("info")
  console.warn = writer("warn")
  console.error = writer("error")
  console.debug = writer("debug")
  globalThis.console = console
  const random = () => {
    const t = (((a + b) | 0) + d) | 0
    d = (d + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (c << 21) | (c >>> 11)
    c = (c + t) | 0
    return (t >>> 0) / 4294967296
  }
  for (let at = 0; at < 12; at++) random()
  defineProperty(Math, "random", { value: () => random(), writable: true, configurable: true, enumerable: false })
  const list = parse(names)
  if (list.length > 0) {
    const host = {}
    for (let at = 0; at < list.length; at++) {
      const name = list[at]
      defineProperty(host, name, { value: async (...values) => parse(await call(name, stringify(values))), enumerable: true })
    }
    globalThis.host = freeze(host)
  }
  const describe = (error) => {
    if (!isObject(error)) return stringify({ __proto__: null, name: "Thrown", problem: attempt(() => show(error)) ?? "" })
    return stringify({
      __proto__: null,
      name: attempt(() => error.name) ?? "Error",
      problem: attempt(() => error.message) ?? "",
      stack: attempt(() => error.stack)
    })
  }
  const finish = (value) => {
    if (value === undefined) return "nThe function returned undefined, which JSON does not have. Return null where there is nothing to tell."
    let text
    try {
      text = stringify(value)
    } catch (error) {
      return "nThe function returned what JSON does not have: " + (attempt(() => error.message) ?? "")
    }
    if (text === undefined) return "nThe function returned a " + typeof value + ", which JSON does not have."
    return text.length > limit ? "l" : "r" + text
  }
  const invoke = async (script, params, context) => finish(await script(parse(params), parse(context)))
  return { __proto__: null, describe, invoke }
})`
