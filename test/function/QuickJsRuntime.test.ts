import * as QuickJsRuntime from "../../src/quickjs/QuickJsRuntime.ts"
import { laws } from "./functionRuntimeLaws.ts"
import * as Attempts from "./javascriptAttempts.ts"

laws({
  language: "javascript",
  layer: QuickJsRuntime.layer,
  add: `export default ({ x, y }) => { console.log("adding"); return x + y }`,
  context: `export default async (params, context) => context`,
  ...Attempts,
  share: 1 / 2,
  reusesWorkers: true,
  invalid: { script: "const a = 1\n  b c", column: 5 },
  fails: { script: "export default () => {\n  throw new TypeError('no') }", name: "TypeError", column: 22 }
})
