// Adapters of your own: how a store becomes an app's sessions, laws to try it with, and a query driver.
import { Duration, Effect, Exit, Layer, Result } from "effect"
import { Ledger, QueryDriver, QueryError, SessionPruning, SessionToken } from "holdfast"
import type { SessionError, SessionStore } from "holdfast"
import * as SessionOrigin from "holdfast/http/SessionOrigin"
import * as assert from "node:assert/strict"

// #region layer
/** A store becomes the sessions of an app: with its pruning, the cookie, and the guard against other sites. */
export const sessionsOf = <E, R>(
  store: Layer.Layer<SessionStore.SessionStore, E, R>,
  { origin, ...options }: SessionOrigin.Options & { readonly pruning?: SessionPruning.Options | false }
) => SessionOrigin.sessions(SessionPruning.withStore(store, options.pruning), { ...options, origin })
// #endregion

// #region laws
/** Two instances over the same sessions, and a hand on the store's clock. */
export interface World {
  readonly store: SessionStore.SessionStore["Service"]
  readonly another: SessionStore.SessionStore["Service"]
  readonly advance: (by: Duration.Input) => Effect.Effect<void>
}

const newToken = () => SessionToken.hash(SessionToken.make())
const limits = {
  idleTimeout: Duration.minutes(30),
  absoluteTimeout: Duration.hours(12),
  renewEvery: Duration.hours(1),
  maxPerPrincipal: 3
}
const newSession = (principal: string | null): SessionStore.NewSession => ({
  ...limits,
  token: newToken(),
  principal,
  data: {},
  dataVersion: 1,
  device: {}
})

/** `ok`, or the reason. */
const told = <A>(operation: Effect.Effect<A, SessionError.SessionError>) =>
  Effect.map(
    Effect.result(operation),
    Result.match({ onFailure: ({ reason }) => reason._tag, onSuccess: () => "ok" as const })
  )

/** A token that is in use, or was, never leads to another session. "The store cannot be reached" is the wrong answer. */
export const aTakenTokenIsRefused = ({ another, store }: World) =>
  Effect.gen(function* () {
    const [mine, taken] = [newSession("alice"), newSession("bob")]
    yield* store.create(mine)
    const { record } = yield* store.create(taken)
    yield* store.revoke(record.id)
    const next = taken.token
    const { token } = mine
    assert.equal(yield* told(another.create({ ...newSession("carol"), token: next })), "SessionTokenTaken")
    assert.equal(yield* told(another.renew({ token, next })), "SessionTokenTaken")
    assert.equal(yield* told(another.rotate({ token, next })), "SessionTokenTaken")
    assert.equal(
      yield* told(another.authenticate({ ...limits, token, next, principal: "dora", device: {} })),
      "SessionTokenTaken"
    )
    assert.equal(yield* told(another.load(token)), "ok")
  })

/** A `revoke` that meets an expired session must write that down: the clock may go back afterwards. */
export const anExpiredSessionStaysExpired = ({ advance, another, store }: World) =>
  Effect.gen(function* () {
    const session = newSession("alice")
    const { record } = yield* store.create(session)
    yield* advance("2 hours")
    assert.equal(yield* store.revoke(record.id), false)
    yield* advance(Duration.hours(-2))
    assert.equal(yield* told(another.load(session.token)), "SessionExpired")
  })

/** Twenty logins at once, three places. */
export const theCapHolds = ({ another, store }: World) =>
  Effect.gen(function* () {
    const logins = Array.from({ length: 20 }, (_, index) =>
      (index % 2 === 0 ? store : another).create(newSession("alice"))
    )
    const done = yield* Effect.all(logins, { concurrency: "unbounded" })
    assert.equal((yield* store.list("alice")).length, 3)
    assert.equal(new Set(done.flatMap(({ displaced }) => displaced)).size, 17)
  })

/** Activity is written once per touch interval, and never makes a session end early. */
export const activityIsCoalesced = ({ advance, another, store }: World) =>
  Effect.gen(function* () {
    const session = newSession(null)
    yield* store.create(session)
    yield* advance("50 seconds")
    const { createdAt, lastSeenAt } = yield* store.load(session.token)
    assert.deepEqual(lastSeenAt, createdAt) // the interval is 60 seconds: nothing was written
    yield* advance({ minutes: 29, seconds: 59 })
    assert.equal(yield* told(another.load(session.token)), "ok")
  })

/** `pruneLag` counts from 24 hours after the end; where nobody ended a session, its end is the absolute one. */
export const pruningLagsBehind = ({ advance, store }: World) =>
  Effect.gen(function* () {
    yield* store.create({ ...newSession(null), absoluteTimeout: Duration.hours(1) })
    yield* advance("26 hours")
    assert.equal(Math.round(Duration.toMinutes(yield* store.pruneLag)), 60)
    assert.equal((yield* store.prune(10)).sessions, 1)
    assert.equal(Duration.toMillis(yield* store.pruneLag), 0)
  })
// #endregion

// #region driver
/** Counts to the number in the statement. */
const execute: QueryDriver.QueryConnection["execute"] = ({ sql }, sink, { onDone }) =>
  Effect.gen(function* () {
    const last = Number(/^count to (\d+)$/.exec(sql)?.[1])
    if (Number.isNaN(last)) {
      return yield* new QueryError.QueryError({
        reason: new QueryError.StatementFailed({ problem: "Write `count to` and a number" })
      })
    }
    yield* sink.columns([{ name: "n", type: "int4" }]) // once, also when there are no rows
    for (let n = 1; n <= last; n++) yield* sink.rows([[n]]) // waits for the reader
    const summary = { command: "COUNT", rowCount: last }
    onDone(Exit.succeed(summary)) // last, when the engine has said that it is done
    return summary
  })

/** Each connection lives in the scope that it was opened in, and stands in the ledger. */
export const layerCounter = Layer.succeed(
  QueryDriver.QueryDriver,
  QueryDriver.QueryDriver.of({
    open: Ledger.hold(
      { kind: "connection", id: "counter" },
      Effect.succeed({ id: "counter", execute }),
      () => Effect.void
    )
  })
)
// #endregion
