/**
 * The registry as an entity of an Effect cluster: a runner that has no engine and no database submits, watches and cancels queries on
 * those that have.
 *
 * The entity is a door, and holds nothing: the queries live in the `QueryRegistry` of the runner, over a `QueryJournal` that all
 * runners share. So a query goes on, and is found, whatever becomes of the entity: when it moves, is idle, or its runner stops.
 *
 * **When to use**
 *
 * In an app that runs an Effect cluster anyway. Without one, every instance with a `PgQueryJournal` answers for every query by
 * itself, see `docs/scaling.md`; that needs no port between instances.
 *
 * **Details**
 *
 * There is one entity for each principal, whose id is the principal: a call sees and ends the queries of that one only. The calls are
 * volatile, so no message is stored. One that gets no answer within five seconds is sent again for a minute, until the cluster has found
 * out that the runner is gone; a submission is sent again only where it has an idempotency key. What waits for a query asks every
 * ten seconds anew, so nothing waits for a runner that is gone.
 *
 * **Gotchas**
 *
 * The port of a runner knows nobody: a program that reaches it speaks for any principal and runs SQL. Let runners know each other by
 * certificates (mutual TLS), as `docs/scaling.md` shows, or keep the port in a network of their own.
 *
 * Runners without a shared journal know their own queries only: then a query is lost with the next rebalancing.
 *
 * Do not annotate the calls with `ClusterSchema.Persisted` without idempotency keys: what is stored may be delivered twice. And the
 * cluster never deletes what it has stored.
 *
 * **Example** (Runs the queries of others, and has some run)
 *
 * ```ts
 * const runner = QueryEntity.layer.pipe(Layer.provide([layerSharedQueries(databases), cluster]))
 *
 * const program = Effect.gen(function* () {
 *   const queriesOf = yield* QueryEntity.client()
 *   const { id } = yield* queriesOf("alice").submit({ statement: { sql: "select 1", params: [] } })
 *   return yield* queriesOf("alice").await(id)
 * })
 * ```
 */
import * as Entity from "effect/cluster/Entity"
import type { Sharding } from "effect/cluster/Sharding"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { QueryError } from "../query/QueryError.ts"
import type { QueryId } from "../query/QueryId.ts"
import { QueryRegistry } from "../query/QueryRegistry.ts"
import * as QueryState from "../query/QueryState.ts"
import { Calls, waitsFor } from "./internal/QueryEntityCalls.ts"
import { make, type Options, type Queries, type Submission } from "./internal/QueryEntityClient.ts"

export type { Options, Queries, Submission }

/** The entity: its id is the principal. */
export const QueryEntity = Entity.fromRpcGroup("holdfast/Query", Calls)

const present = <K extends string, A>(key: K, value: A | undefined) =>
  (value === undefined ? {} : { [key]: value }) as { readonly [_ in K]?: A }

const handlers = Effect.gen(function* () {
  const registry = yield* QueryRegistry
  const { entityId } = yield* Entity.CurrentAddress
  const principal: string = entityId

  /** The record as it is when the effect is over, or time is up. */
  const after = (id: QueryId, waited: Effect.Effect<unknown, QueryError>) =>
    Effect.andThen(Effect.timeoutOption(waited, waitsFor), registry.status(principal, id))

  const unfinished = Effect.fnUntraced(function* (session: string | undefined) {
    const states = QueryState.all.filter((state) => !QueryState.isTerminal(state))
    const found = yield* Effect.forEach(states, (state) =>
      Stream.runCollect(
        Stream.paginate(undefined as number | undefined, (after) =>
          Effect.map(
            registry.list(principal, { state, after }),
            ({ next, queries }) => [queries, next === undefined ? Option.none() : Option.some(next)] as const
          )
        )
      )
    )
    return found
      .flat()
      .filter((record) => session === undefined || record.session === session)
      .map(({ id }) => id)
  })

  return QueryEntity.of({
    Submit: ({ payload: { deadlineMillis, params, retentionMillis, settings, sql, ...more } }) =>
      registry.submit({
        ...more,
        principal,
        statement: { sql, params, ...present("settings", settings) },
        ...present("deadline", deadlineMillis),
        ...present("retention", retentionMillis)
      }),
    Status: ({ payload: { id } }) => registry.status(principal, id),
    Wait: ({ payload: { id, seen } }) => after(id, Stream.runHead(registry.events(principal, id, { after: seen }))),
    Cancel: ({ payload: { id } }) => after(id, registry.cancel(principal, id)),
    Unfinished: ({ payload: { session } }) => unfinished(session),
    List: ({ payload }) =>
      Effect.map(registry.list(principal, payload), ({ next, queries }) => ({ queries, ...present("next", next) })),
    Page: ({ payload: { id, ...range } }) =>
      Effect.map(registry.page(principal, id, range), ({ columns, next, rows }) => ({
        columns,
        rows,
        ...present("next", next)
      }))
  })
})

/**
 * Answers on this runner with the registry in context. Calls of one principal run side by side: one that waits for a query holds up
 * no other.
 */
export const layer: Layer.Layer<never, never, QueryRegistry | Sharding> = QueryEntity.toLayer(handlers, {
  concurrency: "unbounded"
})

/** Reaches the queries of any principal through the cluster in context, also from a runner that runs none. */
export const client = Effect.fnUntraced(function* (options?: Options) {
  const open = yield* make(options)
  const of = yield* QueryEntity.client
  return (principal: string): Queries => open(of(principal))
})
