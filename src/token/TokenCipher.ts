/**
 * How tokens are encrypted where they are kept: AES-256-GCM (NIST SP 800-38D) under a ring of keys.
 *
 * A cipher lives as long as the program; its keys come from the program's configuration and never reach the place where the
 * tokens are. The first key of the ring encrypts, all of them decrypt: to rotate, put a new one in front, and remove the
 * old one when its tokens are gone (the longest lifetime of a refresh token, say).
 *
 * **Details**
 *
 * What is sealed is bound to a context, the key under which it is kept, so that it cannot be moved to another tenant's row. A
 * sealed text is: the format (1 byte), length and name of the key, the nonce (12 random bytes: a key is good for 2^32 of
 * them), what was encrypted, and the tag (16 bytes). Format and name are authenticated with it.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as KeyRing from "../cipher/KeyRing.ts"
import { ClientError, InvalidConfig } from "../client/ClientError.ts"

/** A key of the ring. */
export interface Key {
  /** Names it, in 1 to 64 letters, digits, `-` and `_`. Not secret; never give another key the name of an old one. */
  readonly id: string
  /** 32 random bytes in base64 or base64url, as by `openssl rand -base64 32`. */
  readonly secret: Redacted.Redacted
}

/** The tokens that belong together. */
export interface Tokens {
  readonly access: Redacted.Redacted
  readonly refresh: Redacted.Redacted | undefined
}

export interface TokenCipher {
  readonly seal: (context: string, tokens: Tokens) => Uint8Array
  /** `undefined` for what was not sealed in this context by a key of the ring, and for anything else. */
  readonly open: (context: string, sealed: Uint8Array) => Tokens | undefined
}

const Sealed = Schema.fromJsonString(
  Schema.Struct({ access: Schema.String, refresh: Schema.optionalKey(Schema.String) })
)
const encode = Schema.encodeSync(Sealed)
const decode = Schema.decodeUnknownOption(Sealed)

const textOf = ({ access, refresh }: Tokens): string =>
  encode({ access: Redacted.value(access), ...(refresh === undefined ? {} : { refresh: Redacted.value(refresh) }) })

const tokensOf = (text: string): Tokens | undefined => {
  const tokens = Option.getOrUndefined(decode(text))
  if (tokens === undefined) return undefined
  const { access, refresh } = tokens
  return { access: Redacted.make(access), refresh: refresh === undefined ? undefined : Redacted.make(refresh) }
}

/** Fails with `InvalidConfig`, which names the key, where a ring makes no sense. */
export const make = (ring: ReadonlyArray<Key>): Effect.Effect<TokenCipher, ClientError> =>
  Effect.fromResult(
    Result.match(KeyRing.make(ring, { format: 1 }), {
      onFailure: (problem) => Result.fail(new ClientError({ reason: new InvalidConfig({ field: "keys", problem }) })),
      onSuccess: ({ open, seal }) =>
        Result.succeed<TokenCipher>({
          seal: (context, tokens) => seal(context, textOf(tokens)),
          open: (context, sealed) => {
            const opened = open(context, sealed)
            return opened._tag === "Opened" ? tokensOf(opened.text) : undefined
          }
        })
    })
  )

/** What the log says of tokens that no key of the ring opens. */
export const unreadable = (account: string) =>
  `The tokens of ${account} cannot be decrypted and are got anew. Keep the keys that are in use in the ring.`
