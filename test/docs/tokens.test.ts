import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { layerTokens } from "../../docs/examples/tokens.ts"
import { TokenRepository } from "../../src/token/TokenRepository.ts"
import { keys, tokenDatabase } from "../support/tokens.ts"

describe("the example of tokens", () => {
  it.live("gets a hundred prices with one login in two steps, and exits by itself", () =>
    Effect.gen(function* () {
      const args = ["--conditions=holdfast-source", "docs/examples/tokens.ts"]
      const { stderr, stdout } = yield* Effect.promise(() => promisify(execFile)(process.execPath, args))
      const exchanges = "POST /v1/token/auth_user, POST /v1/token/auth_refresh"
      assert.deepStrictEqual({ stderr, stdout }, { stderr: "", stdout: `100 prices, 2 exchanges: ${exchanges}\n` })
    })
  )

  it.live("keeps tokens in a database", () =>
    Effect.gen(function* () {
      const url = yield* tokenDatabase
      const context = yield* Layer.build(layerTokens(url, keys[0]?.secret ?? Redacted.make("")))
      const repository = Context.get(context, TokenRepository)
      assert.strictEqual((yield* repository.get("alice")).version, 0)
    }).pipe(Effect.scoped)
  )
})
