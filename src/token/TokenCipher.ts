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
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto"
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

const algorithm = "aes-256-gcm"
const format = 1
const nonceLength = 12
const tagLength = 16

/** Fails with `InvalidConfig`, which names the key, where a ring makes no sense. */
export const make = Effect.fnUntraced(function* (ring: ReadonlyArray<Key>): Effect.fn.Return<TokenCipher, ClientError> {
  const keys = new Map<string, Buffer>()
  for (const key of ring) keys.set(key.id, yield* bytesOf(key))
  const [first] = ring
  if (first === undefined) return yield* invalid("are none. Give at least one")
  if (keys.size < ring.length) return yield* invalid("have the same id twice. Give each one its own")
  const { id } = first
  const secret = yield* bytesOf(first)
  const header = Buffer.concat([Buffer.of(format, id.length), Buffer.from(id)])

  return {
    seal: (context, tokens) => {
      const nonce = randomBytes(nonceLength)
      const cipher = createCipheriv(algorithm, secret, nonce, { authTagLength: tagLength })
      cipher.setAAD(Buffer.concat([header, Buffer.from(context)]))
      return Buffer.concat([header, nonce, cipher.update(textOf(tokens), "utf8"), cipher.final(), cipher.getAuthTag()])
    },
    open: (context, sealed) => {
      const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
      if (bytes[0] !== format) return undefined
      const headerLength = 2 + (bytes[1] ?? 0)
      const key = keys.get(bytes.toString("utf8", 2, headerLength))
      if (key === undefined || bytes.length < headerLength + nonceLength + tagLength) return undefined
      const nonce = bytes.subarray(headerLength, headerLength + nonceLength)
      try {
        const decipher = createDecipheriv(algorithm, key, nonce, { authTagLength: tagLength })
        decipher.setAAD(Buffer.concat([bytes.subarray(0, headerLength), Buffer.from(context)]))
        decipher.setAuthTag(bytes.subarray(-tagLength))
        const text = decipher.update(bytes.subarray(headerLength + nonceLength, -tagLength))
        return tokensOf(Buffer.concat([text, decipher.final()]).toString("utf8"))
      } catch {
        return undefined
      }
    }
  }
})

const invalid = (problem: string) => new ClientError({ reason: new InvalidConfig({ field: "keys", problem }) })

const bytesOf = ({ id, secret }: Key): Effect.Effect<Buffer, ClientError> => {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(id)) {
    return Effect.fail(invalid("have an id that is not 1 to 64 letters, digits, - and _"))
  }
  const text = Redacted.value(secret)
  const bytes = Buffer.from(text, "base64")
  return bytes.length === 32 && /^[A-Za-z0-9+/_-]{43}=?$/.test(text)
    ? Effect.succeed(bytes)
    : Effect.fail(invalid(`have "${id}", which is not 32 bytes in base64. Make one with: openssl rand -base64 32`))
}

/** What the log says of tokens that no key of the ring opens. */
export const unreadable = (account: string) =>
  `The tokens of ${account} cannot be decrypted and are got anew. Keep the keys that are in use in the ring.`
