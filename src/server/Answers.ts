/**
 * Answers as long as their user makes them, which are sent only as fast as they are read.
 *
 * An answer lives as long as its request. What is short is sent at once; what is longer is made piece by piece, and only when the
 * piece before was taken, so that an answer that nobody reads is a few pieces in memory and no more.
 *
 * **Details**
 *
 * Each user has so many long answers at a time; one more waits until one of them is read or its reader is gone, ten seconds at
 * most, then it is refused. All users together have sixteen times as many, given out in turn. `SlowReaders` sees to it that none of them
 * is held for ever.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import * as Problem from "../http/Problem.ts"
import * as QueryProblem from "../http/QueryProblem.ts"
import * as FairSemaphore from "../lifetime/FairSemaphore.ts"
import * as Turns from "../lifetime/internal/Turns.ts"

/** The next bytes of a body; nothing after the last. */
export type Pull<E> = Effect.Effect<Uint8Array | undefined, E>

/** How an answer is sent. */
export interface Options {
  /** Whose answer it is. */
  readonly principal: string
  readonly headers?: Readonly<Record<string, string>> | undefined
}

export class Answers extends Context.Service<
  Answers,
  {
    /** Answers with JSON. Fails with what reading its beginning fails with; the connection breaks off where the rest cannot be read. */
    readonly json: <E>(
      body: Pull<E>,
      options: Options
    ) => Effect.Effect<
      HttpServerResponse.HttpServerResponse,
      E | QueryProblem.TooManyAnswers,
      HttpServerRequest.HttpServerRequest | Scope.Scope
    >
    /** Takes a place among the event streams of a user, for the current scope. */
    readonly stream: (
      principal: string
    ) => Effect.Effect<void, QueryProblem.TooManyStreams, HttpServerRequest.HttpServerRequest | Scope.Scope>
  }
>()("holdfast/server/Answers") {}

/** How many answers there may be. */
export interface Limits {
  /** Long ones of one user. */
  readonly maxAnswersPerUser: number
  /** Event streams of one user. */
  readonly maxStreamsPerUser: number
}

/** What is longer is sent piece by piece. */
const shortBytes = 64 * 1024

/** Users who can have all they may have at the same time. */
const users = 16

const patience = Duration.seconds(10)

/** Tells the caller of the running request when to come back. */
const orLater = <A, E extends { readonly retryAfterSeconds: number }, R>(take: Effect.Effect<A, E, R>) =>
  Effect.tapError(take, ({ retryAfterSeconds }) => Problem.retryAfter(retryAfterSeconds))

/** A body of text that is made piece by piece. */
export const ofText = (pieces: Iterator<string, void>): Pull<never> => {
  let isOver = false
  return Effect.andThen(
    Turns.next,
    Effect.sync(() => {
      let text = ""
      while (!isOver && text.length < shortBytes / 2) {
        const { done, value } = pieces.next()
        if (done === true) isOver = true
        else text += value
        if (Turns.isSpent() && text !== "") break
      }
      return text === "" ? undefined : Buffer.from(text)
    })
  )
}

/** Bodies one after the other. */
export const concat = <E>(...bodies: ReadonlyArray<Pull<E>>): Pull<E> => {
  let at = 0
  const pull: Pull<E> = Effect.suspend(() => {
    const body = bodies[at]
    if (body === undefined) return Effect.succeed(undefined)
    return Effect.flatMap(body, (bytes) => {
      if (bytes !== undefined) return Effect.succeed(bytes)
      at++
      return pull
    })
  })
  return pull
}

/** A text of which it is known what it says when it is pulled. */
export const later = (text: () => string): Pull<never> => {
  let isOver = false
  return Effect.sync(() => {
    if (isOver) return undefined
    isOver = true
    return Buffer.from(text())
  })
}

/** Reads what there is up to a length, and says whether that is all. */
const begin = <E>(body: Pull<E>) =>
  Effect.gen(function* () {
    const parts: Array<Uint8Array> = []
    for (let bytes = 0; bytes <= shortBytes;) {
      const part = yield* body
      if (part === undefined) return { begun: Buffer.concat(parts), isAll: true }
      parts.push(part)
      bytes += part.length
    }
    return { begun: Buffer.concat(parts), isAll: false }
  })

const streamOf = <E>(begun: Uint8Array, body: Pull<E>): Stream.Stream<Uint8Array, E> => {
  const next = Effect.flatMap(body, (bytes) => (bytes === undefined ? Cause.done() : Effect.succeed(Arr.of(bytes))))
  return Stream.concat(Stream.succeed(begun), Stream.fromPull(Effect.succeed(next)))
}

const make = ({ maxAnswersPerUser, maxStreamsPerUser }: Limits) =>
  Effect.gen(function* () {
    const answers = yield* FairSemaphore.make<QueryProblem.TooManyAnswers>(users * maxAnswersPerUser, {
      maxWaiting: users * maxAnswersPerUser,
      patience,
      perKey: { permits: maxAnswersPerUser, maxWaiting: maxAnswersPerUser },
      refuse: () =>
        Effect.fail(
          new QueryProblem.TooManyAnswers({
            detail: `${maxAnswersPerUser} of your answers are not read yet. Read them or close their connections, then ask again.`,
            retryAfterSeconds: 1
          })
        )
    })
    const streams = yield* FairSemaphore.make<QueryProblem.TooManyStreams>(users * maxStreamsPerUser, {
      maxWaiting: 0,
      perKey: { permits: maxStreamsPerUser, maxWaiting: 0 },
      refuse: () =>
        Effect.fail(
          new QueryProblem.TooManyStreams({
            detail: `${maxStreamsPerUser} event streams of yours are open. Close some, then ask again.`,
            retryAfterSeconds: 1
          })
        )
    })
    return Answers.of({
      json: Effect.fnUntraced(function* (body, { headers = {}, principal }) {
        const { begun, isAll } = yield* begin(body)
        const options = { contentType: "application/json", headers }
        if (isAll) return HttpServerResponse.uint8Array(begun, options)
        yield* orLater(answers.take(principal))
        return HttpServerResponse.stream(streamOf(begun, body), options)
      }),
      stream: (principal) => orLater(streams.take(principal))
    })
  })

/** Answers within limits. */
export const layer = (limits: Limits): Layer.Layer<Answers> => Layer.effect(Answers, make(limits))
