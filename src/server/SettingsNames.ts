/**
 * The names of the service's variables, and what a variable that is none of them was meant to be.
 *
 * A misspelt variable would otherwise be as good as not set: limits would be the usual ones, and nobody would know.
 */

import { ofEngine as fileOfEngine, variables as inFiles } from "./SecretFiles.ts"

const names = [
  ...inFiles.map((name) => `${name}_FILE`),
  "HOLDFAST_ABSOLUTE_TIMEOUT",
  "HOLDFAST_ACCESS_LOG",
  "HOLDFAST_DEMO_PASSWORD",
  "HOLDFAST_DRAIN_DELAY",
  "HOLDFAST_ENGINES",
  "HOLDFAST_ENGINE_LIMITS",
  "HOLDFAST_FUNCTIONS",
  "HOLDFAST_FUNCTION_ABSOLUTE_TIMEOUT",
  "HOLDFAST_FUNCTION_IDLE_TIMEOUT",
  "HOLDFAST_FUNCTION_MAX_CONSOLE",
  "HOLDFAST_FUNCTION_MAX_PARAMS",
  "HOLDFAST_FUNCTION_MAX_RESULT",
  "HOLDFAST_FUNCTION_MAX_SCRIPT",
  "HOLDFAST_FUNCTION_MEMORY",
  "HOLDFAST_FUNCTION_TIMEOUT",
  "HOLDFAST_IDLE_TIMEOUT",
  "HOLDFAST_KEEP_ALIVE",
  "HOLDFAST_LOG_FORMAT",
  "HOLDFAST_LOG_LEVEL",
  "HOLDFAST_MAX_ANSWERS_PER_USER",
  "HOLDFAST_MAX_CONNECTIONS",
  "HOLDFAST_MAX_CONNECTIONS_PER_ADDRESS",
  "HOLDFAST_MAX_EXECUTIONS",
  "HOLDFAST_MAX_FUNCTIONS_PER_USER",
  "HOLDFAST_MAX_QUERIES",
  "HOLDFAST_MAX_QUERIES_PER_USER",
  "HOLDFAST_MAX_SESSIONS",
  "HOLDFAST_MAX_STREAMS_PER_USER",
  "HOLDFAST_ORIGIN",
  "HOLDFAST_PASSWORD",
  "HOLDFAST_PASSWORD_FILE",
  "HOLDFAST_QUERY_MAX_TIMEOUT",
  "HOLDFAST_QUERY_PASSWORD",
  "HOLDFAST_QUERY_RETENTION",
  "HOLDFAST_QUERY_ROLES",
  "HOLDFAST_QUERY_ROLES_FILE",
  "HOLDFAST_QUERY_SUPERUSER",
  "HOLDFAST_QUERY_TIMEOUT",
  "HOLDFAST_QUERY_TIMEOUTS",
  "HOLDFAST_QUERY_TRACE",
  "HOLDFAST_QUERY_URL",
  "HOLDFAST_RENEW_EVERY",
  "HOLDFAST_REQUEST_METRICS",
  "HOLDFAST_REQUIRE_TLS",
  "HOLDFAST_SESSION_KEYS",
  "HOLDFAST_SESSION_KEYS_FILE",
  "HOLDFAST_SESSION_STORE",
  "HOLDFAST_SHARED_QUERIES",
  "HOLDFAST_SNOWFLAKE_ACCOUNT",
  "HOLDFAST_SNOWFLAKE_PRIVATE_KEY_FILE",
  "HOLDFAST_SNOWFLAKE_TOKEN",
  "HOLDFAST_SNOWFLAKE_TOKEN_TYPE",
  "HOLDFAST_SNOWFLAKE_USER",
  "HOLDFAST_TLS_CERT",
  "HOLDFAST_TLS_KEY",
  "HOLDFAST_TRUSTED_PROXIES",
  "HOLDFAST_WRITE_TIMEOUT"
]

/** Set by Docker and Kubernetes where a service that can be reached is called `holdfast` or `holdfast-…`. */
const ofOrchestrator = /_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)$/

/** Of an engine that has a name; whether there is such an engine is seen when the engines are read. */
const ofEngine = /^HOLDFAST_ENGINE_[A-Z0-9_]+_PASSWORD$/

/** For the tests and measurements of Holdfast itself. */
const ofTools = /^HOLDFAST_(?:TEST|BENCH)_/

const isForeign = (name: string, value: string) =>
  ofTools.test(name) || ofOrchestrator.test(name) || (name.endsWith("_PORT") && /^(?:tcp|udp|sctp):\/\//.test(value))

/** How many letters have to be added, left out or changed to come from one name to the other (Levenshtein). */
const distance = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const changed = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(changed, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}

const nearest = (name: string) =>
  names.reduce((best, known) => (distance(name, known) < distance(name, best) ? known : best))

/** The first variable of ours that there is not, and what to do about it. */
export const unknown = (environment: Readonly<Record<string, string | undefined>>) => {
  for (const [name, value = ""] of Object.entries(environment).toSorted()) {
    if (
      !/^HOLDFAST_/i.test(name) ||
      names.includes(name) ||
      ofEngine.test(name) ||
      fileOfEngine.test(name) ||
      isForeign(name, value)
    )
      continue
    return { name, problem: `is no variable of Holdfast. The nearest one is ${nearest(name.toUpperCase())}` }
  }
  return undefined
}
