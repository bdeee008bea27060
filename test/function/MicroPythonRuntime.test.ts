import * as MicroPythonRuntime from "../../src/micropython/MicroPythonRuntime.ts"
import { laws } from "./functionRuntimeLaws.ts"
import * as Attempts from "./pythonAttempts.ts"

laws({
  language: "python",
  layer: MicroPythonRuntime.layer,
  add: `def main(params, context):\n    print("adding")\n    return params["x"] + params["y"]`,
  context: `def main(params, context): return context`,
  ...Attempts,
  share: 1 / 8,
  reusesWorkers: false,
  invalid: { script: "a = 1\nb c", column: undefined },
  fails: { script: "def main(params, context):\n    raise TypeError('no')", name: "TypeError", column: undefined }
})
