/**
 * How the console is built: one page and its assets, into `dist/console`. What it takes of the service's modules are schemas.
 */
import * as Path from "node:path"
import { defineConfig } from "vite"

const here = import.meta.dirname
/** What the schemas need of Node, for a browser. */
const node = Path.join(here, "platform/node.ts")

export default defineConfig({
  root: here,
  base: "/console/",
  publicDir: false,
  resolve: {
    alias: { "node:buffer": node, "node:crypto": node },
    conditions: ["browser", "module", "import", "default"]
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: Path.join(here, "../../dist/console"),
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: false
  }
})
