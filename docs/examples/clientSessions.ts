/**
 * Outgoing HTTP: a session for a program, one per account, and what its failures are.
 */
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as Layer from "effect/Layer"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Schedule from "effect/Schedule"
import { ClientError } from "holdfast/client/ClientError"
import * as ClientSession from "holdfast/client/ClientSession"
import * as ClientSessions from "holdfast/client/ClientSessions"

// #region use
/** Any code that asks for the ordinary `HttpClient`. */
export const price = (url: string) =>
  Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const response = yield* client.get(url)
    return yield* response.text
  })

/** When the effect is over, every connection that it opened is closed, also after a failure or an interruption. */
export const pricedOnce = (url: string) =>
  price(url).pipe(Effect.provide(ClientSession.layer({ timeout: "5 seconds", grace: "1 second" })))
// #endregion

// #region failures
/** A text for the user, and whether to ask again. */
export const explain = (error: HttpClientError) => {
  const { reason } = ClientError.from(error)
  switch (reason._tag) {
    case "NetworkError":
      return { text: `The shop is away (${reason.phase}).`, again: true }
    case "Timeout":
      return { text: "The shop is slow.", again: true }
    case "HeldBack":
      return { text: "We ask too often.", again: true }
    default:
      return { text: reason.message, again: false }
  }
}

export const patientPrice = (url: string) =>
  Effect.retry(price(url), { times: 3, schedule: Schedule.exponential("20 millis"), while: (e) => explain(e).again })
// #endregion

// #region shared
/** A job with its own session. It finds the open connections of earlier jobs. */
const pricedInJob = (url: string) => Effect.provide(price(url), ClientSession.layer({ reuse: "shared" }))

/** Connections and their limits belong to the program. */
export const pricedInJobs = (urls: ReadonlyArray<string>) =>
  Effect.forEach(urls, pricedInJob).pipe(Effect.provide(ClientSession.layerShared({ connectionsPerOrigin: 8 })))
// #endregion

// #region guards
/** Five requests a second. After three failures in a row: no request for half a minute. */
export const layerGuarded = Layer.unwrap(
  Effect.gen(function* () {
    const limiter = yield* RateLimiter.make
    const breaker = yield* CircuitBreaker.make({
      tripPolicy: { _tag: "Consecutive", failures: 3 },
      openDuration: "30 seconds"
    })
    return ClientSession.layer({
      rateLimit: { limiter, key: "shop", limit: 5, window: "1 second" },
      circuitBreaker: { breaker }
    })
  })
).pipe(Layer.provide([RateLimiter.layerStoreMemory, CircuitBreaker.layerStoreMemory()]))
// #endregion

// #region accounts
/** One session for each account, with its own connections, cookies and limits. */
export const layerAccounts = ClientSessions.layer({
  session: (account) => (account.startsWith("trial-") ? { connectionsPerOrigin: 2 } : {}),
  idleTimeToLive: "1 minute"
})

export const priceFor = (account: string, url: string) =>
  Effect.gen(function* () {
    const sessions = yield* ClientSessions.ClientSessions
    return yield* Effect.provide(price(url), sessions.layer(account))
  })
// #endregion
