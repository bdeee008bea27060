/**
 * What an app keeps in its sessions, between the store's JSON and the app's type: versions, migrations, limits, and what
 * becomes of data that cannot be read.
 *
 * A codec lives as long as the session class that it is made for, and holds nothing of any session.
 *
 * **Details**
 *
 * Data is stored with the version of the schema that wrote it. Older data is migrated step by step when it is read and
 * stored in the new form with the next change; reading alone writes nothing. Data of a newer version, which another
 * instance wrote during a rolling deploy, is refused whatever the policy: it is sound, and must not be overwritten.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import { SessionError, SessionInvalid, SessionTooLarge, SessionUndecodable } from "./SessionError.ts"

/** Turns data of one version into data of the next. What it throws or fails with makes the data undecodable. */
export type Migration = (old: Schema.Json) => Schema.Json | Effect.Effect<Schema.Json, unknown>

/** What the app keeps in its sessions. */
export interface Options<S extends Schema.Codec<unknown, Schema.Json>> {
  readonly data: S
  /** The data of a session that has none yet. */
  readonly initial: S["Type"]
  /** The version of the schema, from 1. Default: 1. */
  readonly version?: number | undefined
  /** By the version they start from: `{ 1: (old) => … }` makes version 2 of version 1. */
  readonly migrations?: { readonly [from: number]: Migration } | undefined
  /**
   * What becomes of stored data that cannot be read. Default: `"fail"`.
   *
   * - `"fail"`: reading fails with `SessionUndecodable`, and nothing is overwritten.
   * - `"discard"`: the session goes on with `initial`; the next change overwrites what was there.
   * - `"quarantine"`: the session goes on with `initial`; the next change keeps what was there beside the new data, where
   *   `session.quarantined` finds it.
   */
  readonly undecodable?: "fail" | "discard" | "quarantine" | undefined
  /** The most that the data may take, in bytes of JSON. More is refused with `SessionTooLarge`. Default: 65,536. */
  readonly maxBytes?: number | undefined
}

/** Data as a store holds it. */
export interface Stored {
  readonly data: Schema.Json
  readonly dataVersion: number
}

/** Data as it was read. */
export interface Read<A> {
  /** Nobody else's: it may be changed in place. */
  readonly value: A
  /** The same as JSON text of the current version, to tell whether it was changed. */
  readonly text: string
  /** What could not be read and was kept, the newest first; together at most `maxBytes`. */
  readonly quarantined: ReadonlyArray<Stored>
  /** Why the data could not be read, where that was not an error. */
  readonly problem?: string | undefined
}

/** Reads and writes the data of one session class. */
export interface SessionData<A> {
  /** The data of a session that has none yet. */
  readonly initial: Effect.Effect<Read<A>, SessionError>
  readonly read: (stored: Stored) => Effect.Effect<Read<A>, SessionError>
  /** New data in the form that is stored, with what is quarantined; `SessionTooLarge` or `SessionInvalid` if not. */
  readonly write: (
    value: A,
    quarantined: ReadonlyArray<Stored>
  ) => Effect.Effect<{ readonly stored: Stored; readonly text: string }, SessionError>
}

/** Arrays and objects within each other. Deeper data is refused: databases and readers of JSON recurse. */
export const maxDepth = 100

// The version of data with something in quarantine beside it is stored negative: nothing that an app or its clients put into
// the data can be taken for that.
const Envelope = Schema.Struct({
  data: Schema.Json,
  quarantined: Schema.Array(Schema.Struct({ data: Schema.Json, dataVersion: Schema.Int }))
})
const decodeEnvelope = Schema.decodeUnknownEffect(Envelope)

const because = (reason: SessionError["reason"]) => new SessionError({ reason })
const undecodable = (problem: string) => because(new SessionUndecodable({ problem }))
const bytesOf = (data: Schema.Json) => Buffer.byteLength(JSON.stringify(data))

const nested = (values: ReadonlyArray<Schema.Json>) =>
  values.filter((value): value is Schema.JsonArray | Schema.JsonObject => typeof value === "object" && value !== null)
/** Whether data has more than {@link maxDepth} levels. */
export const isTooDeep = (data: Schema.Json): boolean => {
  let level = nested([data])
  for (let depth = 0; level.length > 0; depth++) {
    if (depth === maxDepth) return true
    level = nested(level.flatMap((value): ReadonlyArray<Schema.Json> => Object.values(value)))
  }
  return false
}

const describe = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  return error instanceof Error ? error.message : String(error)
}

/** Makes the codec of a session class. */
export const make = <S extends Schema.Codec<unknown, Schema.Json>>(options: Options<S>): SessionData<S["Type"]> => {
  const { migrations = {}, undecodable: policy = "fail", version = 1, maxBytes = 65_536 } = options
  const decode = Schema.decodeUnknownEffect(options.data)
  const encode = Schema.encodeEffect(options.data)

  // A reader may change its value in place, so each reader gets a copy.
  const decoded = (text: string) => decode(JSON.parse(text))
  const encoded = (value: S["Type"]) =>
    Effect.mapError(encode(value), (error) => because(new SessionInvalid({ problem: error.message })))
  const initial: SessionData<S["Type"]>["initial"] = Effect.gen(function* () {
    const text = JSON.stringify(yield* encoded(options.initial))
    return {
      value: yield* Effect.mapError(decoded(text), ({ message }) => undecodable(message)),
      text,
      quarantined: []
    }
  })

  const migrate = Effect.fnUntraced(function* ({ data, dataVersion }: Stored) {
    let migrated = data
    for (let from = dataVersion; from < version; from++) {
      const migration = migrations[from]
      if (migration === undefined) return yield* Effect.fail(`There is no migration from version ${from}`)
      const next = yield* Effect.try({ try: () => migration(migrated), catch: (error) => error })
      migrated = Effect.isEffect(next) ? yield* next : next
    }
    return migrated
  })

  const open = Effect.fnUntraced(function* ({ data, dataVersion }: Stored) {
    if (dataVersion >= 0) return { data, dataVersion, quarantined: [] }
    const envelope = yield* Effect.mapError(decodeEnvelope(data), (error) => undecodable(error.message))
    return { ...envelope, dataVersion: -dataVersion }
  })

  const read: SessionData<S["Type"]>["read"] = Effect.fnUntraced(function* (stored) {
    const { quarantined, ...opened } = yield* open(stored)
    if (opened.dataVersion > version) {
      return yield* undecodable(
        `It was written by version ${opened.dataVersion} of the app's data, and this is version ${version}. Deploy the newer one everywhere`
      )
    }
    const attempt = Effect.flatMap(migrate(opened), (migrated) => {
      const text = JSON.stringify(migrated)
      return Effect.map(decoded(text), (value) => ({ value, text, quarantined }))
    })
    return yield* Effect.catchCause(attempt, (cause): Effect.Effect<Read<S["Type"]>, SessionError> => {
      if (Cause.hasInterrupts(cause)) return Effect.interrupt
      const problem = describe(cause)
      if (policy === "fail") return Effect.fail(undecodable(problem))
      const kept = policy === "quarantine" ? bounded([opened, ...quarantined]) : quarantined
      return Effect.map(initial, (read) => ({ ...read, quarantined: kept, problem }))
    })
  })

  const bounded = (quarantined: ReadonlyArray<Stored>) => {
    let bytes = 0
    return quarantined.filter(({ data }) => (bytes += bytesOf(data)) <= maxBytes)
  }

  const write: SessionData<S["Type"]>["write"] = Effect.fnUntraced(function* (value, quarantined) {
    const data = yield* encoded(value)
    if (isTooDeep(data)) {
      return yield* because(new SessionInvalid({ problem: `it is nested deeper than ${maxDepth} levels` }))
    }
    const text = JSON.stringify(data)
    const bytes = Buffer.byteLength(text)
    if (bytes > maxBytes) return yield* because(new SessionTooLarge({ bytes, maxBytes }))
    if (quarantined.length === 0) return { text, stored: { data, dataVersion: version } }
    const kept = quarantined.map((stored) => ({ data: stored.data, dataVersion: stored.dataVersion }))
    return { text, stored: { data: { data, quarantined: kept }, dataVersion: -version } }
  })

  return { initial, read, write }
}
