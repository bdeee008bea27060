/** Tokens and claims to try a repository with. */
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Claim, Kept, Replacement, TokenRepository } from "../../token/TokenRepository.ts"

export type Repository = TokenRepository["Service"]

export const replacement = (access: string, refresh?: string, lifetime: Duration.Input = "1 hour"): Replacement => ({
  access: { value: Redacted.make(access), lifetime: Duration.fromInputUnsafe(lifetime) },
  refresh: refresh === undefined ? undefined : { value: Redacted.make(refresh), lifetime: Duration.infinity }
})

export const claim = (owner: string, version: number, limit: Duration.Input = "1 minute"): Claim => ({
  owner,
  version,
  limit: Duration.fromInputUnsafe(limit)
})

export const plain = ({ access, refresh, version }: Kept) => ({
  version,
  access: access && Redacted.value(access.value),
  isGood: (access?.validForMillis ?? 0) > 0 && access?.isRejected === false,
  refresh: refresh && Redacted.value(refresh)
})

/** Takes the lock of what is kept now, and replaces it. */
export const replace = Effect.fnUntraced(function* (repository: Repository, key: string, tokens: Replacement) {
  const { version } = yield* repository.get(key)
  assert.strictEqual((yield* repository.lock(key, claim("somebody", version)))._tag, "Locked")
  return yield* repository.put(key, "somebody", tokens)
})
