import { join } from "node:path"
import { defineConfig } from "vitest/config"
import LongestFirst from "./test/support/LongestFirst.ts"

// "import" is added for what is imported, and would be wrong for what a package requires.
const conditions = ["holdfast-source", "node", "default"]

// Where each test stands by itself, no order breaks any. Vitest prints the seed, and the same seed is the same order.
const anyOrder = { shuffle: { files: true, tests: true }, seed: Number(process.env.HOLDFAST_TEST_SEED ?? Date.now()) }

// Half of what it takes to start a program is to strip and compile it; that is done once for all tests and what they start.
process.env.NODE_COMPILE_CACHE ??= join(import.meta.dirname, "node_modules/.cache/holdfast-tests")

// What measures the memory of its process, and what starts programs and servers of its own all the time and so gains nothing.
const alone = [
  ...["console", "docs", "embedded", "function", "house", "server", "testing"].map(
    (folder) => `test/${folder}/**/*.test.ts`
  ),
  "test/client/ClientSessionProcess.test.ts",
  "test/postgres/PgQueryDriverMemory.test.ts",
  "test/query/QueryThousandUsers.test.ts"
]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    // Files that leave nothing behind can share a process: a quarter of what they take is to start one, and to load the library.
    projects: [
      { extends: true, test: { name: "alone", include: alone } },
      { extends: true, test: { name: "shared", include: ["test/**/*.test.ts"], exclude: alone, isolate: false } }
    ],
    testTimeout: 90_000,
    hookTimeout: 60_000,
    setupFiles: ["test/support/leaks.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    pool: "forks",
    // More than a small machine has processors: most of what the tests do is wait for a server.
    maxWorkers: 4,
    // Most workers live for one file: a larger space for new objects spares it most collections.
    execArgv: ["--max-semi-space-size=64"],
    sequence: process.env.HOLDFAST_TEST_ORDER === "random" ? anyOrder : { sequencer: LongestFirst },
    reporters: ["default", "./test/support/closingLine.ts"]
  }
})
