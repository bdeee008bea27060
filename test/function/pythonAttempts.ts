/**
 * Scripts in Python that try to get out, to stay in, or to take more than they may: one a row, with what it tries.
 *
 * An attempt to escape returns `got(…)` of what it came to; anything but `None` or `False` has escaped.
 */
import type { Row } from "./javascriptAttempts.ts"

const got = `
def got(value):
    return "safe" if value is None or value is False else {"escaped": str(value)}
`

const indented = (code: string) =>
  code
    .split("\n")
    .map((line) => `    ${line}`)
    .join("\n")

/** A function with this body; what it raises is safe. */
const body = (code: string) => `${got}
def attempt(params, context):
${indented(code)}
def main(params, context):
    try:
        return got(attempt(params, context))
    except Exception as error:
        return "safe"
`

const expression = (code: string) => body(`return ${code}`)

export const escapes = (place: { readonly file: string; readonly url: string }): ReadonlyArray<Row> => [
  ["the global object of JavaScript", body("import js\nreturn js.globalThis")],
  ["the process", body("import js\nreturn js.process.env.HOLDFAST_TEST_SECRET")],
  ["the environment by its name", body("import js\nreturn js.process.env['PATH']")],
  ["the process by an attribute's name", body("import js\nreturn getattr(js, 'process')")],
  ["whether JavaScript has a process", body("import js\nreturn hasattr(js, 'process')")],
  ["all names of JavaScript", body("import js\nreturn dir(js)[50]")],
  ["JavaScript by an item", body("import js\nreturn js['process']")],
  ["JavaScript by its repr", body("import js\nreturn len(repr(js.process)) > 0")],
  ["a setter on the global object", body("import js\njs.escaped = 1\nreturn js.escaped")],
  ["a function of JavaScript", body("import js\nreturn js.eval('process.env')")],
  ["a constructor of JavaScript", body("import js\nreturn js.Function.new('return process')()")],
  ["an object of JavaScript", body("import js\nreturn js.Object.new()")],
  ["a promise of JavaScript", body("import js\nreturn js.Promise.resolve(1)")],
  ["a fetch", body(`import js\nreturn js.fetch(${JSON.stringify(place.url)})`)],
  ["a timer of JavaScript", body("import js\nreturn js.setTimeout(lambda: None, 1)")],
  [
    "the files of the host by JavaScript",
    body(`import js\nreturn js.require('fs').readFileSync(${JSON.stringify(place.file)})`)
  ],
  ["an import of JavaScript", body("import js\nreturn js.import_('node:fs')")],
  ["JavaScript by its foreign functions", body("import jsffi\nreturn jsffi.create_proxy(lambda: 1)")],
  ["JavaScript's values by their conversion", body("import jsffi\nreturn jsffi.to_js({'a': 1})")],
  ["JavaScript's types", body("import jsffi\nreturn jsffi.JsProxy(0).process")],
  ["JavaScript by a timer of Python's", body("import jsffi\nreturn jsffi.async_timeout_ms(1)")],
  [
    "asyncio's loop",
    body("import asyncio\nasync def f():\n    await asyncio.sleep(1)\n    return 1\nreturn asyncio.run(f())")
  ],
  [
    "a task that waits for JavaScript",
    body("import asyncio\nasync def f(): return 1\nreturn asyncio.create_task(f())")
  ],
  ["a file of the host", body(`return open(${JSON.stringify(place.file)}).read()`)],
  ["a file of the system", body("return open('/etc/passwd').read()")],
  ["the process's own files", body("return open('/proc/self/environ').read()")],
  ["a device", body("return open('/dev/urandom', 'rb').read(4)")],
  ["a file of its own", body("with open('/tmp/x', 'w') as f: f.write('x')\nreturn open('/tmp/x').read()")],
  ["the files that there are", body("import os\nreturn os.listdir('/')")],
  ["the files that there are, one by one", body("import os\nreturn list(os.ilistdir('.'))")],
  ["where it is", body("import os\nreturn os.getcwd()")],
  ["another place", body("import os\nos.chdir('/etc')\nreturn os.getcwd()")],
  ["a directory", body("import os\nos.mkdir('/x')\nreturn os.stat('/x')")],
  ["what a file is like", body("import os\nreturn os.stat('/etc/passwd')")],
  ["a file system", body("import os\nreturn os.statvfs('/')")],
  ["the environment of Python", body("import os\nreturn os.getenv('HOLDFAST_TEST_SECRET')")],
  ["the environment as a dict", body("import os\nreturn os.environ")],
  ["a shell", body("import os\nreturn os.system('id')")],
  ["a child process", body("import subprocess\nreturn subprocess.run(['id'])")],
  ["a socket", body("import socket\nreturn socket.socket()")],
  ["a request", body(`import urllib.request\nreturn urllib.request.urlopen(${JSON.stringify(place.url)}).read()`)],
  ["the network's library", body(`import requests\nreturn requests.get(${JSON.stringify(place.url)}).text`)],
  ["foreign functions of C", body("import ctypes\nreturn ctypes.CDLL(None)")],
  ["the machine's memory", body("import machine\nreturn machine.mem32[0]")],
  ["the memory of the host by an address", body("import uctypes\nreturn uctypes.bytes_at((1 << 31) + 16, 16)")],
  ["the standard input", body("import sys\nreturn sys.stdin.read(1) or None")],
  ["the end of the program", body("import sys\nsys.exit(1)")],
  ["a module beside it", body("import sys\nsys.path.append('/')\nimport secret\nreturn secret")],
  ["a module of the host by its path", body(`return __import__(${JSON.stringify(place.file)})`)],
  [
    "the modules that are loaded",
    body(
      "import sys\nreturn [name for name in sys.modules if name not in ('__main__', 'script')][0] if len(sys.modules) > 3 else None"
    )
  ],
  ["a script of its own with the builtins of another", body("return eval('__import__(\"js\").process')")],
  [
    "classes by their bases",
    body("return [c for c in ().__class__.__bases__[0].__subclasses__() if 'Popen' in str(c)][0]")
  ],
  [
    "its own result, as what is no text",
    `def main(params, context):\n    import __main__\n    class Out: pass\n    __main__.__out = Out()\n    return "safe"`
  ],
  [
    "the arguments of the program",
    body("import sys\nreturn sys.argv[0] if len(sys.argv) > 0 and sys.argv[0] else None")
  ],
  ["assembler", `@micropython.asm_thumb\ndef f(): pass\n${expression("f()")}`],
  ["native code", `import micropython\n@micropython.native\ndef f(): return 1\n${body("return f()")}`]
]

export const endless: ReadonlyArray<Row> = [
  ["a wait for input that never comes", `def main(p, c):\n    print("on")\n    return input()`],
  ["an empty loop", `print("on")\nwhile True: pass`],
  ["a loop in the function", `def main(p, c):\n    print("on")\n    while True: pass`],
  [
    "a loop in an except",
    `def main(p, c):\n    print("on")\n    try:\n        1/0\n    except:\n        while True: pass`
  ],
  [
    "a loop in a finally",
    `def main(p, c):\n    print("on")\n    try:\n        return 1\n    finally:\n        while True: pass`
  ],
  [
    "a loop that catches all",
    `def main(p, c):\n    print("on")\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass`
  ],
  [
    "a generator without end",
    `def f():\n    while True: yield 1\ndef main(p, c):\n    print("on")\n    for x in f(): pass`
  ],
  ["a native that counts", `def main(p, c):\n    print("on")\n    return sum(iter(int, 1))`],
  [
    "a repr that loops, in an error",
    `class E(Exception):\n    def __str__(self):\n        while True: pass\ndef main(p, c):\n    print("on")\n    raise E()`
  ],
  ["a sleep without end", `import time\ndef main(p, c):\n    print("on")\n    time.sleep(10**6)`],
  ["a power of large numbers", `def main(p, c):\n    print("on")\n    n = 3\n    while True: n = n * n % (1 << 20000)`]
]

export const takes = (mebibytes: number) =>
  `def main(p, c): return len([bytearray(1 << 20) for i in range(${mebibytes})])`

export const bombs: ReadonlyArray<Row> = [
  ["a list that grows", `def main(p, c):\n    a = []\n    while True: a.append([1] * 1000)`],
  ["a string that doubles", `def main(p, c):\n    s = "x"\n    while True: s += s`],
  ["bytes", `def main(p, c):\n    a = []\n    while True: a.append(bytearray(1 << 20))`],
  ["bytes of a gigabyte", `def main(p, c):\n    return len(bytearray(1 << 30))`],
  ["a dict", `def main(p, c):\n    d = {}\n    while True: d["key %d" % len(d)] = [len(d)]`],
  ["a large number that grows", `def main(p, c):\n    n = 2\n    while True: n = n ** 2`],
  ["closures", `def main(p, c):\n    f = []\n    while True: f.append(lambda: f)`],
  ["deep recursion", `def f(n): return 1 + f(n + 1)\ndef main(p, c): return f(0)`],
  ["deep recursion through natives", `def f(x): return list(map(f, [x]))\ndef main(p, c): return f(1)`],
  ["deep recursion in a result", `def main(p, c):\n    o = []\n    for i in range(100000): o = [o]\n    return o`],
  ["a result that holds itself", `def main(p, c):\n    o = []\n    o.append(o)\n    return o`],
  ["deeply nested source", `x = ${"(".repeat(20_000)}1${")".repeat(20_000)}`],
  ["a result that is too long", `def main(p, c): return "x" * (1 << 21)`],
  ["a result that is no JSON", `def main(p, c): return {1, 2}`],
  ["a flood of output", `def main(p, c):\n    for i in range(3000): print("x" * 100)\n    raise ValueError("done")`],
  [
    "one line that never ends",
    `def main(p, c):\n    for i in range(3000): print("x" * 100, end="")\n    raise ValueError("done")`
  ],
  ["an error that is too long", `def main(p, c): raise ValueError("x" * (1 << 20))`]
]

export const pollution = `
import json, sys, builtins
for module in (json, sys, builtins):
    for name in ("left", "dumps", "loads", "print", "len"):
        try:
            setattr(module, name, lambda *a: "left")
        except Exception:
            pass
left = 1
sys.modules["left"] = 1
def main(params, context): return "polluted"
`

export const seen = `
import sys, json
def main(params, context):
    print("seen")
    return ["left" in sys.modules, hasattr(json, "left"), json.loads("[1]"), len([1]), "left" in globals()]
`

export const seenClean = [false, false, [1], 1, false]
