/**
 * AES-256-GCM (NIST SP 800-38D) under a ring of keys: the first key encrypts, all of them decrypt.
 *
 * A ring lives as long as the program.
 *
 * **Details**
 *
 * What is sealed is bound to a context, and opens in no other. It is: the format (1 byte), length and name of the key, the nonce
 * (12 random bytes), what was encrypted, and the tag (16 bytes). Format and name are authenticated with it.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { Buffer } from "node:buffer"
import { createCipheriv, createDecipheriv, hash, randomBytes } from "node:crypto"

/** A key of the ring. */
export interface Key {
  /** Names it, in 1 to 64 letters, digits, `-` and `_`. Not secret; never give another key the name of an old one. */
  readonly id: string
  /** 32 random bytes in base64 or base64url, as by `openssl rand -base64 32`. */
  readonly secret: Redacted.Redacted
}

/** What came of opening: the text; the name of a key that is not in the ring; or nothing, where it is not what was sealed. */
export type Opened =
  | { readonly _tag: "Opened"; readonly text: string }
  | { readonly _tag: "KeyMissing"; readonly id: string }
  | { readonly _tag: "Refused" }

export interface KeyRing {
  readonly seal: (context: string, text: string) => Buffer
  readonly open: (context: string, sealed: Uint8Array) => Opened
}

/** How things are sealed. */
export interface Format {
  /** The first byte. */
  readonly format: number
  /**
   * Where each context has a key of its own, derived from this and the context (NIST SP 800-56C, 4.1, with SHA-256): a key is
   * good for 2^32 random nonces, so one for all contexts could be used up. Default: all have the same.
   */
  readonly purpose?: string
}

const algorithm = "aes-256-gcm"
const nonceLength = 12
const tagLength = 16
const refused: Opened = { _tag: "Refused" }

/** A counter, the secret, and what the key is for. Secrets have one length. */
const keyOf = (secret: Buffer, purpose: string | undefined, context: string) =>
  purpose === undefined
    ? secret
    : hash("sha256", Buffer.concat([Buffer.of(0, 0, 0, 1), secret, Buffer.from(`${purpose}\0${context}`)]), "buffer")

const opener =
  (secrets: ReadonlyMap<string, Buffer>, { format, purpose }: Format): KeyRing["open"] =>
  (context, sealed) => {
    const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
    if (bytes[0] !== format) return refused
    const headerLength = 2 + (bytes[1] ?? 0)
    if (bytes.length < headerLength + nonceLength + tagLength) return refused
    const id = bytes.toString("utf8", 2, headerLength)
    const secret = secrets.get(id)
    if (secret === undefined) return isId(id) ? { _tag: "KeyMissing", id } : refused
    const nonce = bytes.subarray(headerLength, headerLength + nonceLength)
    try {
      const decipher = createDecipheriv(algorithm, keyOf(secret, purpose, context), nonce, { authTagLength: tagLength })
      decipher.setAAD(Buffer.concat([bytes.subarray(0, headerLength), Buffer.from(context)]))
      decipher.setAuthTag(bytes.subarray(-tagLength))
      const text = decipher.update(bytes.subarray(headerLength + nonceLength, -tagLength))
      return { _tag: "Opened", text: Buffer.concat([text, decipher.final()]).toString("utf8") }
    } catch {
      return refused
    }
  }

/** What opens nothing, and tells which key would. */
export const withoutKeys = (format: Format): Pick<KeyRing, "open"> => ({ open: opener(new Map(), format) })

/** Makes a ring, or says what is wrong with its keys, to be read behind `The keys`. It tells nothing of a secret. */
export const make = (keys: ReadonlyArray<Key>, as: Format): Result.Result<KeyRing, string> =>
  Result.gen(function* () {
    const { format, purpose } = as
    const secrets = new Map<string, Buffer>()
    for (const key of keys) secrets.set(key.id, yield* bytesOf(key))
    const [first] = keys
    if (first === undefined) return yield* Result.fail("are none. Give at least one")
    if (secrets.size < keys.length) return yield* Result.fail("have the same id twice. Give each one its own")
    const { id } = first
    const own = yield* bytesOf(first)
    const header = Buffer.concat([Buffer.of(format, id.length), Buffer.from(id)])

    return {
      seal: (context, text) => {
        const nonce = randomBytes(nonceLength)
        const cipher = createCipheriv(algorithm, keyOf(own, purpose, context), nonce, { authTagLength: tagLength })
        cipher.setAAD(Buffer.concat([header, Buffer.from(context)]))
        return Buffer.concat([header, nonce, cipher.update(text, "utf8"), cipher.final(), cipher.getAuthTag()])
      },
      open: opener(secrets, as)
    } satisfies KeyRing
  })

const isId = (id: string) => /^[A-Za-z0-9_-]{1,64}$/.test(id)

const bytesOf = ({ id, secret }: Key): Result.Result<Buffer, string> => {
  if (!isId(id)) return Result.fail("have an id that is not 1 to 64 letters, digits, - and _")
  const text = Redacted.value(secret)
  const bytes = Buffer.from(text, "base64")
  return bytes.length === 32 && /^[A-Za-z0-9+/_-]{43}=?$/.test(text)
    ? Result.succeed(bytes)
    : Result.fail(`have "${id}", which is not 32 bytes in base64. Make one with: openssl rand -base64 32`)
}
