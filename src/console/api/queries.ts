/**
 * Queries as the console handles them: the JSON of the API, and the calls that change them.
 */
import type { QueryApi } from "../../http/QueryApi.ts"
import type { QueryInfo as Info } from "../../http/QueryApi.ts"
import { client, failureOf, run } from "./client.ts"

/** A query as it comes on the stream. */
export interface Query {
  readonly id: string
  readonly session: string | null
  readonly state: Info["state"]
  readonly engine: string
  readonly sql: string
  readonly submittedAt: string
  readonly startedAt: string | null
  readonly endedAt: string | null
  readonly expiresAt: string | null
  readonly rowCount: number | null
  readonly bytes: number | null
  readonly notices: Info["notices"]
  readonly noticesDropped: number
  readonly error: Info["error"]
  readonly transitions: ReadonlyArray<{ readonly state: Info["state"]; readonly at: string }>
}

export type State = Query["state"]
export type Api = QueryApi

/** Every state in the order of a query's life. */
export const states = ["Queued", "Starting", "Running", "Canceling", "Succeeded", "Failed", "Canceled"] as const

const over = new Set<State>(["Succeeded", "Failed", "Canceled", "Expired"])

/** Whether its outcome is known. */
export const isOver = ({ state }: Pick<Query, "state">): boolean => over.has(state)

/** How a state looks. */
export const toneOf = (state: State): string =>
  state === "Succeeded"
    ? "ok"
    : state === "Failed"
      ? "bad"
      : state === "Running" || state === "Starting"
        ? "busy"
        : state === "Queued" || state === "Canceling"
          ? "wait"
          : "off"

/** How long it took so far, waiting included, in milliseconds. */
export const tookOf = ({ endedAt, submittedAt }: Query, now: number): number =>
  (endedAt === null ? now : Date.parse(endedAt)) - Date.parse(submittedAt)

/** Asks a call for JSON as it is. Fails with `CallFailed`. */
export const json = async (path: string, init?: RequestInit): Promise<Response> => {
  const response = await fetch(path, init).catch(() => {
    throw failureOf({ _tag: "HttpClientError" })
  })
  if (response.ok) return response
  throw failureOf((await response.json().catch(() => ({ code: String(response.status) }))) as object)
}

/** Asks for a query. */
export const find = async (id: string): Promise<Query> => (await (await json(`/queries/${id}`)).json()) as Query

/** Asks for the newest queries. */
export const list = async (): Promise<ReadonlyArray<Query>> =>
  (await (await json("/queries?limit=1000")).json()) as ReadonlyArray<Query>

export interface Submission {
  readonly sql: string
  readonly engine?: string
  readonly params?: ReadonlyArray<unknown>
  readonly timeoutMs?: number
}

/** Runs a statement. Sent again after a break of the network, it runs once. */
export const submit = (submission: Submission) =>
  run(client.queries.submit({ headers: { "idempotency-key": crypto.randomUUID() }, payload: submission })).then(
    ({ body }) => body
  )

/** Cancels a query; settles when the server has said how it ended. */
export const cancel = (id: string) => run(client.queries.cancel({ params: { id } }))

export const engines = () => run(client.queries.engines())
