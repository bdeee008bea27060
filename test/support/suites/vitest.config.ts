/** For a suite that is run by itself, see `suite.ts`. */
import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    root: `${import.meta.dirname}/../../..`,
    include: [process.env["HOLDFAST_SUITE"] ?? ""],
    testTimeout: 30_000,
    pool: "forks",
    maxWorkers: 1
  }
})
