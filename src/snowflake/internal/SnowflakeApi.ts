/**
 * The calls of Snowflake's SQL API v2, each once: what may be sent again, and when, is the caller's business.
 *
 * A call lives as long as the fiber that makes it; interrupted, it gives up its connection at once. It fails with {@link CallFailed}
 * where the answer says nothing about the statement.
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Stream from "effect/Stream"
import type { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import { ClientError } from "../../client/ClientError.ts"
import * as ClientRetries from "../../client/internal/ClientRetries.ts"
import * as Turns from "../../lifetime/internal/Turns.ts"
import * as SnowflakeAnswers from "./SnowflakeAnswers.ts"
import * as SnowflakeBody from "./SnowflakeBody.ts"
import * as SnowflakeBytes from "./SnowflakeBytes.ts"

/** A call that told nothing about the statement. */
export class CallFailed extends Data.TaggedError("CallFailed")<{
  /** For who reads the error: no secret, no URL. */
  readonly problem: string
  /** Whether the same call may succeed later. */
  readonly mayPass: boolean
  /** Whether the server may have done what it was asked to. */
  readonly mayHaveArrived: boolean
  /** When the server wants to be asked again, at the earliest. */
  readonly retryAfterMillis: number
}> {}

/** A statement as it is sent. */
export interface Submission {
  readonly statement: string
  /** In seconds. */
  readonly timeout?: number | undefined
  readonly bindings?: Readonly<Record<string, { readonly type: string; readonly value: string | null }>> | undefined
  readonly parameters: Readonly<Record<string, string>>
  readonly database?: string | undefined
  readonly schema?: string | undefined
  readonly warehouse?: string | undefined
  readonly role?: string | undefined
}

export interface SnowflakeApi {
  readonly origin: string
  /** The same `requestId` is the same statement, however often it is sent. */
  readonly submit: (requestId: string, submission: Submission) => Effect.Effect<SnowflakeAnswers.Answer, CallFailed>
  readonly status: (handle: string) => Effect.Effect<SnowflakeAnswers.Answer, CallFailed>
  /** About so many bytes are expected, decompressed. */
  readonly partition: (
    handle: string,
    partition: number,
    expectedBytes: number
  ) => Effect.Effect<SnowflakeBody.Body, CallFailed>
  /** The server's answer to a cancel tells what it has understood, not what became of the statement. */
  readonly cancel: (handle: string) => Effect.Effect<void, CallFailed>
}

/** What to ask with. */
export interface Means {
  readonly client: HttpClient.HttpClient
  readonly origin: string
  readonly tokenType: string
  readonly userAgent: string
}

const unsent: ReadonlySet<string> = new Set(["resolve", "connect", "tls"])

const mayHaveArrived = ({ reason }: ClientError): boolean => {
  switch (reason._tag) {
    case "NetworkError":
      return !unsent.has(reason.phase)
    case "Timeout":
      return reason.phase !== "connect"
    case "BadResponse":
      return true
    default:
      return false
  }
}

const fromClient = (error: HttpClientError): CallFailed => {
  const cause = ClientError.from(error)
  const tag = cause.reason._tag
  return new CallFailed({
    problem: cause.message,
    mayPass: tag === "NetworkError" || tag === "Timeout" || tag === "RefreshFailed",
    mayHaveArrived: mayHaveArrived(cause),
    retryAfterMillis: 0
  })
}

/** 500 is here because each call may be repeated: a statement is known by its request id. */
const mayPassLater: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504])

/** By the description of the API these were not processed. */
const wereNotProcessed: ReadonlySet<number> = new Set([400, 401, 403, 404, 405, 413, 415, 429, 503])

/** What it says in its own words is repeated where they are about the call, and not about who makes it. */
const said = (status: number, { code, message }: SnowflakeAnswers.Status): string => {
  const number = /^\d{1,8}$/.test(code ?? "") ? ` (${code})` : ""
  return status === 400 || status === 413 ? `${number}${message ? `: ${message}` : ""}` : number
}

const advice = (status: number): string =>
  status === 401 || status === 403
    ? " Check the token, its type, and that the user may use the role and the warehouse."
    : mayPassLater.has(status)
      ? " Try again later."
      : ""

export const make = ({ client, origin, tokenType, userAgent }: Means): SnowflakeApi => {
  const refused = (response: HttpClientResponse, status: SnowflakeAnswers.Status) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Effect.fail(
        new CallFailed({
          problem: `${origin} answered ${response.status}${said(response.status, status)}.${advice(response.status)}`,
          mayPass: mayPassLater.has(response.status),
          mayHaveArrived: !wereNotProcessed.has(response.status),
          retryAfterMillis: ClientRetries.retryAfterMillis(response.headers, now)
        })
      )
    )

  const unusable = (problem: string) =>
    new CallFailed({
      problem: `The answer of ${origin} cannot be used: ${problem}.`,
      mayPass: false,
      mayHaveArrived: true,
      retryAfterMillis: 0
    })

  const headers = {
    accept: "application/json",
    "user-agent": userAgent,
    "x-snowflake-authorization-token-type": tokenType
  }

  const bytesOf = (response: HttpClientResponse, expectedBytes: number) =>
    Effect.suspend(() => {
      const gathering = new SnowflakeBytes.Gathering(expectedBytes)
      return response.stream.pipe(
        Stream.runForEachArray((pieces) => Effect.sync(() => pieces.forEach((piece) => gathering.add(piece)))),
        Effect.catchIf(
          (error) => error.reason._tag === "EmptyBodyError",
          () => Effect.void
        ),
        Effect.map(() => gathering.end())
      )
    })

  const asked = (request: HttpClientRequest.HttpClientRequest, expectedBytes = 0) =>
    Effect.mapError(
      Effect.flatMap(client.execute(request), (response) =>
        Effect.map(bytesOf(response, expectedBytes), (bytes) => ({ response, bytes }))
      ),
      fromClient
    )

  const urlOf = (path: string) => `${origin}/api/v2/statements${path}`

  const finished = (bytes: Buffer) =>
    Effect.flatMap(Turns.run(SnowflakeBody.read(bytes)), (body) => {
      const result = SnowflakeAnswers.resultOf(body.head)
      return result === undefined
        ? Effect.fail(unusable("it has no description of its rows"))
        : Effect.succeed<SnowflakeAnswers.Finished>({ _tag: "Finished", result, body })
    })

  /** The answer about a statement, whichever call it is the answer to. */
  const answerOf = ({ bytes, response }: { readonly bytes: Buffer; readonly response: HttpClientResponse }) =>
    Effect.suspend((): Effect.Effect<SnowflakeAnswers.Answer, CallFailed> => {
      if (response.status === 200) return finished(bytes)
      const status = SnowflakeAnswers.statusOf(bytes.toString("utf8"))
      const handle = status.statementHandle ?? undefined
      const isPending = SnowflakeAnswers.inProgress.has(status.code ?? "")
      if (response.status === 202 || (response.status === 429 && isPending && handle !== undefined)) {
        return Effect.succeed({ _tag: "Pending", handle })
      }
      if (response.status === 422 || (response.status === 408 && SnowflakeAnswers.canceled.has(status.code ?? ""))) {
        return Effect.succeed({ _tag: "Failed", status })
      }
      return refused(response, status)
    })

  return {
    origin,
    submit: (requestId, submission) =>
      Effect.flatMap(
        asked(
          HttpClientRequest.post(urlOf(""), { headers }).pipe(
            HttpClientRequest.setUrlParams({ requestId, retry: "true", async: "true", nullable: "true" }),
            HttpClientRequest.bodyJsonUnsafe(submission)
          )
        ),
        answerOf
      ),
    status: (handle) =>
      Effect.flatMap(
        asked(
          HttpClientRequest.get(urlOf(`/${handle}`), { headers }).pipe(
            HttpClientRequest.setUrlParams({ requestId: randomUUID() })
          )
        ),
        (answered) =>
          answered.response.status === 404
            ? Effect.succeed<SnowflakeAnswers.Answer>({ _tag: "Gone" })
            : answerOf(answered)
      ),
    partition: (handle, partition, expectedBytes) =>
      Effect.flatMap(
        asked(
          HttpClientRequest.get(urlOf(`/${handle}`), { headers }).pipe(
            HttpClientRequest.setUrlParams({ requestId: randomUUID(), partition: String(partition) })
          ),
          expectedBytes
        ),
        ({ bytes, response }) =>
          response.status === 200
            ? Turns.run(SnowflakeBody.read(bytes))
            : refused(response, SnowflakeAnswers.statusOf(bytes.toString("utf8")))
      ),
    cancel: (handle) =>
      Effect.flatMap(
        asked(
          HttpClientRequest.post(urlOf(`/${handle}/cancel`), { headers }).pipe(
            HttpClientRequest.setUrlParams({ requestId: randomUUID() }),
            HttpClientRequest.bodyJsonUnsafe({})
          )
        ),
        ({ bytes, response }) =>
          response.status === 200 || response.status === 422 || response.status === 404
            ? Effect.void
            : refused(response, SnowflakeAnswers.statusOf(bytes.toString("utf8")))
      )
  }
}

/** Waits between calls: doubled each time, and less up to a half at random. */
export const backoffMillis = (attempt: number, first: number, longest: number): number =>
  Math.min(first * 2 ** Math.min(attempt, 30), longest) * (1 - Math.random() / 2)

/**
 * Makes a call again while its failure may pass, for at most so long since the first failure in a row. `onFailure` may forbid one more.
 */
export const persistently = <A>(
  call: Effect.Effect<A, CallFailed>,
  limit: Duration.Duration,
  onFailure: (failure: CallFailed) => boolean = () => true
): Effect.Effect<A, CallFailed> => {
  const limitMillis = Duration.toMillis(limit)
  const attempt = (failures: number, since: number | undefined): Effect.Effect<A, CallFailed> =>
    Effect.catchTag(call, "CallFailed", (failure) =>
      Effect.flatMap(Clock.Clock, (clock) => {
        const now = Number(clock.monotonicTimeNanosUnsafe()) / 1e6
        const began = since ?? now
        const wait = Math.max(failure.retryAfterMillis, backoffMillis(failures, 50, 2000))
        const isAgain = failure.mayPass && now - began + wait <= limitMillis && onFailure(failure)
        return isAgain ? Effect.andThen(Effect.sleep(wait), attempt(failures + 1, began)) : Effect.fail(failure)
      })
    )
  return attempt(0, undefined)
}
