/**
 * `holdfast sessions`: shows the live sessions of users and ends them, beside a running service or without one.
 *
 * Tokens are nowhere: the store has none, and an id opens nothing.
 */
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { flow } from "effect/Function"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Users from "../server/Users.ts"
import { SessionId } from "../session/SessionId.ts"
import type { SessionRecord } from "../session/SessionRecord.ts"
import { SessionStore } from "../session/SessionStore.ts"
import { database, explained } from "./CommandDatabase.ts"
import * as Output from "./Output.ts"
import { unknown as unknownUser } from "./UserCommand.ts"

/** There is no live session of an id. */
export class SessionUnknown extends Schema.TaggedError<SessionUnknown>("holdfast/cli/SessionCommand/SessionUnknown")(
  "SessionUnknown",
  { id: Schema.String }
) {
  override get message(): string {
    return `There is no live session ${this.id}. holdfast sessions list shows those that there are.`
  }
}

const rowOf = ({ createdAt, device, expiresAt, id, idleExpiresAt, lastSeenAt, principal }: SessionRecord) => ({
  id,
  user: principal,
  ip: device.ip,
  lastSeenAt: DateTime.formatIso(lastSeenAt),
  idleExpiresAt: DateTime.formatIso(DateTime.min(idleExpiresAt, expiresAt)),
  expiresAt: DateTime.formatIso(expiresAt),
  createdAt: DateTime.formatIso(createdAt),
  userAgent: device.userAgent
})

/** The same for a person: how long ago, and how long still. */
const shownOf = (now: number) => (session: SessionRecord) => {
  const { createdAt, device, expiresAt, id, idleExpiresAt, lastSeenAt, principal } = session
  return {
    id,
    user: principal,
    ip: device.ip,
    age: Output.span(now - createdAt.epochMilliseconds),
    lastSeen: `${Output.span(now - lastSeenAt.epochMilliseconds)} ago`,
    idleIn: Output.span(DateTime.min(idleExpiresAt, expiresAt).epochMilliseconds - now),
    endsIn: Output.span(expiresAt.epochMilliseconds - now),
    userAgent: device.userAgent
  }
}

/** Those of one user, or of everybody who may log in. */
const found = Effect.fnUntraced(function* (name: Option.Option<string>) {
  const users = yield* Users.Users
  const store = yield* SessionStore
  if (Option.isSome(name) && !(yield* users.isThere(name.value))) return yield* unknownUser(name.value)
  const names = Option.isSome(name) ? [name.value] : yield* users.names
  return (yield* Effect.forEach(names, (each) => store.list(each))).flat()
})

const within = <A, E>(work: Effect.Effect<A, E, Users.Users | SessionStore>) =>
  Effect.flatMap(database, ({ services }) => Effect.provide(work, services)).pipe(Effect.scoped, explained)

export const list = (name: Option.Option<string>, json: boolean) =>
  within(
    Effect.flatMap(found(name), (sessions) =>
      Output.rows(sessions.map(rowOf), {
        json,
        none: "There are no sessions.",
        shown: sessions.map(shownOf(Date.now()))
      })
    )
  )

export const show = (id: string, json: boolean) =>
  within(
    Effect.gen(function* () {
      const session = (yield* found(Option.none())).find((each) => each.id === id)
      if (session === undefined) return yield* new SessionUnknown({ id })
      const { actor, dataVersion, version } = session
      yield* Output.one({ ...rowOf(session), actor, version, dataVersion }, { json })
    })
  )

const decodeId = Schema.decodeUnknownOption(SessionId)

/** Ends a session on every instance, with all that it holds. */
export const end = Effect.fn("SessionCommand.end")(
  function* (text: string) {
    const id = decodeId(text)
    if (Option.isNone(id)) return yield* new SessionUnknown({ id: text })
    const { services } = yield* database
    const isEnded = yield* Effect.provide(
      Effect.flatMap(SessionStore, (store) => store.revoke(id.value)),
      services
    )
    if (!isEnded) return yield* new SessionUnknown({ id: text })
    yield* Console.log(`session ${text} is ended`)
  },
  flow(Effect.scoped, explained)
)
