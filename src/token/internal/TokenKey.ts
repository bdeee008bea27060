/**
 * The key that an account's tokens are kept under: text that every store keeps as it is.
 */
import * as Effect from "effect/Effect"
import { ClientError, InvalidConfig } from "../../client/ClientError.ts"
import type { TokenRepository } from "../TokenRepository.ts"

const problem = "must have 1 to 200 characters of well-formed text, and no NUL"

/** Fails with `InvalidConfig` for what some store would keep as another text, or not at all. */
export const check = (key: string): Effect.Effect<void, ClientError> =>
  key.length >= 1 && key.length <= 200 && key.isWellFormed() && !key.includes("\0")
    ? Effect.void
    : Effect.fail(new ClientError({ reason: new InvalidConfig({ field: "key", problem }) }))

/** A repository that refuses such keys in every operation, so that no two accounts share a place. */
export const checked = (repository: TokenRepository["Service"]): TokenRepository["Service"] => {
  const { get, invalidate, lock, put, unlock } = repository
  return {
    get: (key) => Effect.andThen(check(key), get(key)),
    lock: (key, claim) => Effect.andThen(check(key), lock(key, claim)),
    put: (key, owner, replacement) => Effect.andThen(check(key), put(key, owner, replacement)),
    unlock: (key, owner, pause) => Effect.andThen(check(key), unlock(key, owner, pause)),
    invalidate: (key, version) => Effect.andThen(check(key), invalidate(key, version))
  }
}
