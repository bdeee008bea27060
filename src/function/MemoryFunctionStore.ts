/**
 * Functions in the memory of this process. They are gone when the layer closes.
 *
 * Its clock is that of the program.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Buffer } from "node:buffer"
import { FunctionError, FunctionNotFound, FunctionRejected } from "./FunctionError.ts"
import type { FunctionId } from "./FunctionId.ts"
import type { FunctionRecord } from "./FunctionRecord.ts"
import { FunctionStore, touchMillis } from "./FunctionStore.ts"

interface Kept {
  readonly record: FunctionRecord
  readonly bytes: number
  readonly idleMillis: number
  /** In milliseconds of the epoch. */
  readonly until: number
  usedAt: number
}

const notFound = Effect.fail(new FunctionError({ reason: new FunctionNotFound({}) }))

const isLive = (kept: Kept, now: number): boolean =>
  now < kept.until && now < kept.usedAt + kept.idleMillis + touchMillis(kept.idleMillis)

const told = ({ idleMillis, record, until, usedAt }: Kept): FunctionRecord => ({
  ...record,
  expiresAt: DateTime.makeUnsafe(Math.min(usedAt + idleMillis, until))
})

/** Makes an empty store. */
export const make = Effect.gen(function* () {
  const clock = yield* Clock.Clock
  const all = new Map<FunctionId, Kept>()
  const now = () => clock.currentTimeMillisUnsafe()
  const of = (principal: string) =>
    Array.from(all.values()).filter((kept) => kept.record.principal === principal && isLive(kept, now()))
  const find = (principal: string, id: FunctionId): Kept | undefined => {
    const kept = all.get(id)
    return kept !== undefined && kept.record.principal === principal && isLive(kept, now()) ? kept : undefined
  }
  const seen = (principal: string, id: FunctionId, use: (kept: Kept) => void = () => undefined) =>
    Effect.suspend(() => {
      const kept = find(principal, id)
      if (kept === undefined) return notFound
      use(kept)
      return Effect.succeed(told(kept))
    })

  return FunctionStore.of({
    create: ({ absoluteTimeout, idleTimeout, ...created }, room) =>
      Effect.suspend(() => {
        const theirs = of(created.principal)
        const bytes = Buffer.byteLength(created.script) + Buffer.byteLength(created.context)
        const sum = theirs.reduce((sum, kept) => sum + kept.bytes, bytes)
        const isCount = theirs.length >= room.functions
        if (isCount || sum > room.bytes) {
          const limit = isCount ? "functionsOfPrincipal" : "functionBytesOfPrincipal"
          const count = isCount ? theirs.length : room.bytes
          return Effect.fail(
            new FunctionError({ reason: new FunctionRejected({ limit, count, retryAfterSeconds: 60 }) })
          )
        }
        const usedAt = now()
        const [createdAt, idleMillis] = [DateTime.makeUnsafe(usedAt), Duration.toMillis(idleTimeout)]
        const until = usedAt + Duration.toMillis(absoluteTimeout)
        const kept: Kept = { record: { ...created, createdAt, expiresAt: createdAt }, bytes, idleMillis, until, usedAt }
        all.set(created.id, kept)
        return Effect.succeed(told(kept))
      }),
    find: (principal, id) => seen(principal, id),
    use: (principal, id) =>
      seen(principal, id, (kept) => {
        if (now() - kept.usedAt >= touchMillis(kept.idleMillis)) kept.usedAt = now()
      }),
    list: (principal, { after, limit = 100 } = {}) =>
      Effect.sync(() => {
        const theirs = of(principal).toReversed()
        const from = after === undefined ? 0 : theirs.findIndex(({ record }) => record.id === after) + 1
        const page = theirs.slice(from, from + limit)
        return { functions: page.map(told), next: from + limit < theirs.length ? page.at(-1)?.record.id : undefined }
      }),
    end: (principal, id) => Effect.sync(() => find(principal, id) !== undefined && all.delete(id)),
    endedOf: (ids) => Effect.sync(() => ids.filter((id) => !all.has(id))),
    prune: (limit) =>
      Effect.sync(() => {
        const over = Array.from(all.values())
          .filter((kept) => !isLive(kept, now()))
          .slice(0, limit)
        for (const { record } of over) all.delete(record.id)
        return over.length
      }),
    ping: Effect.void
  })
})

/** Functions of this process. */
export const layer: Layer.Layer<FunctionStore> = Layer.effect(FunctionStore, make)
