/**
 * The program `redis-server` or `valkey-server`, wherever it can be had, see `DistributionProgram`.
 *
 * On Debian and its kin it is in the package of the tools: there, `redis-server` is a second name of `redis-check-rdb`.
 */
import type * as Effect from "effect/Effect"
import * as DistributionProgram from "./DistributionProgram.ts"

const redis = { name: "redis-tools", file: "redis-check-rdb", argv0: "redis-server" }

/** Finds the program, or fetches it; fails with one line that says how to get it. */
export const find: Effect.Effect<DistributionProgram.Program, string> = DistributionProgram.find({
  cache: "redis",
  names: ["redis-server", "valkey-server"],
  packages: [redis, { name: "valkey-tools", file: "valkey-check-rdb", argv0: "valkey-server" }],
  installable: redis,
  advice:
    "Install redis-server or valkey-server (Debian: apt-get install redis-server; Fedora: dnf install valkey; " +
    "macOS: brew install redis) so that it is on PATH, or set HOLDFAST_TEST_REDIS_URL to a Redis of your own."
})
