/**
 * Which of the service's connections go beyond this machine without TLS, where anybody on the way can read and change what passes.
 */
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Loopback from "../lifetime/internal/Loopback.ts"
import type { EngineSettings } from "./EngineSettings.ts"
import * as PgTarget from "../postgres/internal/PgTarget.ts"

/** The URLs of a configuration that can lead elsewhere. */
export interface Urls {
  readonly databaseUrl: Option.Option<Redacted.Redacted<string>>
  readonly queryUrl: Option.Option<Redacted.Redacted<string>>
  readonly redisUrl: Option.Option<Redacted.Redacted<string>>
  readonly engines: ReadonlyArray<Pick<EngineSettings, "remedy" | "variable">>
}

const postgres = {
  isInClear: (url: Redacted.Redacted<string>) => PgTarget.of(url).isInClear,
  remedy: "sslmode=verify-full"
}
const redis = {
  isInClear: (url: Redacted.Redacted<string>) => {
    const { hostname, protocol } = new URL(Redacted.value(url))
    return protocol === "redis:" && !Loopback.isLoopback(hostname)
  },
  remedy: "rediss:// in the place of redis://"
}

/** The variables whose connections may pass a network in clear text, and what each needs. */
export const found = (urls: Urls): ReadonlyArray<{ readonly variable: string; readonly remedy: string }> => [
  ...(
    [
      ["DATABASE_URL", urls.databaseUrl, postgres],
      ["HOLDFAST_QUERY_URL", urls.queryUrl, postgres],
      ["REDIS_URL", urls.redisUrl, redis]
    ] as const
  ).flatMap(([variable, url, { isInClear, remedy }]) => (Option.exists(url, isInClear) ? [{ variable, remedy }] : [])),
  ...urls.engines.flatMap(({ remedy, variable }) => (remedy === undefined ? [] : [{ variable, remedy }]))
]
