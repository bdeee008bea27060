/**
 * A running service, as a user of it sees it: a command logs in, asks, and logs out.
 *
 * A session lasts as long as the scope that it was opened in; it is ended there, also when the command is interrupted.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

/** The service does not answer, or refuses. */
export class ServiceRefused extends Schema.TaggedError<ServiceRefused>("holdfast/cli/ServiceClient/ServiceRefused")(
  "ServiceRefused",
  { problem: Schema.String }
) {
  override get message(): string {
    return this.problem
  }
}

const refuse = (problem: string) => new ServiceRefused({ problem })

const Problem = Schema.Struct({ title: Schema.String, detail: Schema.optionalKey(Schema.String) })
const problemOf = Schema.decodeUnknownOption(Schema.fromJsonString(Problem))

interface Answer {
  readonly text: string
  readonly headers: Headers
}

export interface Client {
  readonly get: <S extends Schema.Codec<unknown, unknown>>(
    path: string,
    schema: S
  ) => Effect.Effect<S["Type"], ServiceRefused>
  readonly send: (method: string, path: string) => Effect.Effect<void, ServiceRefused>
}

/** How long an answer may take. */
const limit = 10_000

const causeOf = (error: unknown): string =>
  error instanceof Error ? (error.cause instanceof Error ? causeOf(error.cause) : error.message) : String(error)

const ask = (
  url: string,
  method: string,
  path: string,
  more: RequestInit = {}
): Effect.Effect<Answer, ServiceRefused> =>
  Effect.tryPromise({
    try: async (signal) => {
      const within = AbortSignal.any([signal, AbortSignal.timeout(limit)])
      const response = await fetch(`${url}${path}`, { method, redirect: "manual", signal: within, ...more })
      return { text: await response.text(), headers: response.headers, status: response.status }
    },
    catch: (error) => refuse(`${url} does not answer: ${causeOf(error)}. Name the service with --url`)
  }).pipe(
    Effect.flatMap(({ headers, status, text }) => {
      if (status < 400) return Effect.succeed({ text, headers })
      const problem = problemOf(text)
      return Effect.fail(
        refuse(
          Option.match(problem, {
            onNone: () => `${url} answered ${method} ${path} with ${status}`,
            onSome: ({ detail, title }) => (detail === undefined ? title : `${title}. ${detail}`)
          })
        )
      )
    })
  )

/** Logs in for the current scope. */
export const login = (url: string, username: string, password: Redacted.Redacted) =>
  Effect.acquireRelease(
    ask(url, "POST", "/login", {
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ username, password: Redacted.value(password) })
    }).pipe(
      Effect.map(({ headers }) =>
        headers
          .getSetCookie()
          .map((header) => header.split(";", 1)[0] ?? "")
          .join("; ")
      )
    ),
    (cookie) => Effect.ignore(ask(url, "POST", "/logout", { headers: { cookie } }))
  ).pipe(
    Effect.map((cookie): Client => {
      const send = (method: string, path: string) => ask(url, method, path, { headers: { cookie } })
      return {
        send: (method, path) => Effect.asVoid(send(method, path)),
        get: (path, schema) =>
          Effect.flatMap(send("GET", path), ({ text }) =>
            Effect.mapError(Schema.decodeUnknownEffect(Schema.fromJsonString(schema))(text), () =>
              refuse(
                `${url} answered GET ${path} with something else than this Holdfast expects: is it another version?`
              )
            )
          )
      }
    })
  )
