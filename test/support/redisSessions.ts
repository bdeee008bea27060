/**
 * Session stores on keys of their own, and a hand on their time.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Net from "node:net"
import * as RedisSessionStore from "../../src/redis/RedisSessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { type Client, client, freshPrefix, keysOf, redisUrl, type Reply } from "./redis.ts"

/** An instance of the store until the scope closes. */
export const instance = (options: RedisSessionStore.Options) =>
  Effect.map(Layer.build(Layer.fresh(RedisSessionStore.layer({ pruning: false, ...options }))), (context) =>
    Context.get(context, SessionStore)
  )

/** Moves all times under the prefix back: for the store, time went on. */
const advance = `
local prefix, by = ARGV[1], tonumber(ARGV[2])
local function back(key, ...)
  for _, field in ipairs({ ... }) do
    local at = redis.call('HGET', key, field)
    if at then redis.call('HSET', key, field, string.format('%.0f', at - by)) end
  end
end
local function score(key, by)
  local all = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #all, 2 do redis.call('ZADD', key, string.format('%.0f', all[i + 1] - by), all[i]) end
end
for _, key in ipairs(redis.call('KEYS', prefix .. ':*')) do
  local kind = string.match(string.sub(key, #prefix + 2), '^[^:]+')
  if kind == 'session' then
    back(key, 'createdAt', 'lastSeenAt', 'expiresAt', 'endedAt')
    if redis.call('HGET', key, 'stamp') ~= '0' then redis.call('HINCRBY', key, 'stamp', 1) end
  elseif kind == 'token' then back(key, 'issuedAt', 'validUntil')
  elseif kind == 'ends' or kind == 'deadlines-of' then score(key, by)
  elseif kind == 'epochs' or kind == 'sessions-of' then score(key, by * 1000) end
end`

export const advanceOf =
  ({ send }: Client, prefix: string) =>
  (by: Duration.Input) =>
    Effect.asVoid(send("EVAL", advance, "0", prefix, String(Duration.toMillis(by))))

/** A prefix with two instances of the store, and a connection for the test's own commands. */
export const redisWorld = Effect.gen(function* () {
  const prefix = yield* freshPrefix
  const url = yield* redisUrl
  const own = yield* client()
  const store = yield* instance({ url, prefix })
  const another = yield* instance({ url, prefix })
  return { prefix, url, client: own, store, another, advance: advanceOf(own, prefix) }
})

const list = (reply: Reply) => (Array.isArray(reply) ? reply.map(String) : [])
const pairs = (reply: Reply) => {
  const all = list(reply)
  return new Map(all.flatMap((name, index) => (index % 2 === 0 ? [[name, all[index + 1] ?? ""] as const] : [])))
}

const fields = new Set(
  "stamp principal actor dataVersion version createdAt lastSeenAt idle touch renew expiresAt endedAt era first last instead".split(
    " "
  )
)

/**
 * What is wrong with the keys under a prefix: each session is among those to be pruned, and among those of its principal as
 * long as it lives, by the right times; every token leads to a session that leads to the token; and nothing else is there.
 * Nothing may be written meanwhile.
 */
export const contradictions = Effect.fnUntraced(function* (own: Client, prefix: string) {
  const wrong: Array<string> = []
  const { send } = own
  const named = (kind: string, keys: ReadonlyArray<string>) =>
    keys.flatMap((key) => (key.startsWith(`${prefix}:${kind}:`) ? [key.slice(prefix.length + kind.length + 2)] : []))
  const hash = (kind: string, name: string) => Effect.map(send("HGETALL", `${prefix}:${kind}:${name}`), hashOf)
  const scores = (key: string) => Effect.map(send("ZRANGE", `${prefix}:${key}`, "0", "-1", "WITHSCORES"), pairs)
  const keys = yield* keysOf(own, `${prefix}:`)
  const [seconds = ""] = list(yield* send("TIME"))
  const now = Number(seconds) * 1000

  const sessions = new Map<string, ReadonlyMap<string, string>>()
  for (const id of named("session", keys)) sessions.set(id, yield* hash("session", id))
  const ends = yield* scores("ends")
  for (const [id, at] of ends) {
    const session = sessions.get(id)
    if (at !== (session?.get("endedAt") ?? session?.get("expiresAt"))) wrong.push(`${id} ends at ${at}`)
  }
  const indexed = new Set<string>()
  const tokens = new Set(named("token", keys))
  for (const principal of new Set([...named("sessions-of", keys), ...named("deadlines-of", keys)])) {
    const order = yield* scores(`sessions-of:${principal}`)
    const deadlines = yield* scores(`deadlines-of:${principal}`)
    if (order.size !== deadlines.size)
      wrong.push(`${principal} has ${order.size} sessions, ${deadlines.size} deadlines`)
    for (const [id, at] of deadlines) {
      const session = sessions.get(id)
      const value = (name: string) => Number(session?.get(name))
      const end = Math.min(value("expiresAt"), value("lastSeenAt") + value("idle") + value("touch"))
      if (session?.get("principal") !== principal) wrong.push(`${id} is not ${principal}'s`)
      if (session?.has("endedAt") === true) wrong.push(`${id} has ended and is listed`)
      if (Number(at) !== end) wrong.push(`the deadline of ${id} is ${end}, not ${at}`)
      if (!order.has(id)) wrong.push(`${id} has no place in the order`)
      indexed.add(id)
    }
  }
  const reached = new Set<string>()
  const taken = new Set<string>()
  for (const [id, session] of sessions) {
    if (!ends.has(id)) wrong.push(`${id} would never be pruned`)
    for (const name of session.keys()) if (!fields.has(name)) wrong.push(`${id} has an unknown field ${name}`)
    // Where nobody is, there is no field.
    for (const name of ["principal", "actor"]) if (session.get(name) === "") wrong.push(`${id} has an empty ${name}`)
    // What is over for good has no stamp.
    const isOver = Number(session.get("lastSeenAt")) + Number(session.get("idle")) < now || session.get("stamp") === "0"
    if (session.has("principal") && !isOver && !indexed.has(id)) wrong.push(`${id} is in no list`)
    let token = session.get("first")
    while (token !== undefined && !reached.has(token)) {
      reached.add(token)
      const held = yield* hash("token", token)
      if (held.get("session") !== id && held.get("was") !== id) wrong.push(`a token of ${id} is missing or another's`)
      const next = held.get("successor")
      if (next === undefined && token !== session.get("last")) wrong.push(`the last token of ${id} is not the last`)
      token = next
    }
    if (token !== undefined) wrong.push(`the tokens of ${id} go in circles`)
    const instead = session.get("instead")
    if (instead !== undefined) taken.add(instead)
  }
  for (const token of tokens) if (!reached.has(token) && !taken.has(token)) wrong.push(`token ${token} is nobody's`)
  const contents = new Set(named("content", keys))
  for (const [id, session] of sessions) {
    if (contents.has(id) === session.has("endedAt"))
      wrong.push(`what ${id} holds is ${contents.has(id) ? "" : "not "}there`)
  }
  for (const id of contents) if (!sessions.has(id)) wrong.push(`content ${id} is nobody's`)
  const known = /^(session|content|token|sessions-of|deadlines-of):|^(ends|epochs)$/
  for (const key of keys) if (!known.test(key.slice(prefix.length + 1))) wrong.push(`${key} is unknown`)
  return wrong
})

/** A hash, as either version of the protocol tells it. */
const hashOf = (reply: Reply): ReadonlyMap<string, string> =>
  Array.isArray(reply)
    ? pairs(reply)
    : new Map(Object.entries(Object(reply)).map(([name, value]) => [name, String(value)]))

/** Everything that a server without a password is told, from now on until the scope closes. */
export const monitor = (url: Redacted.Redacted) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly said: () => string; readonly close: () => void }>((resume) => {
      const { hostname, port } = new URL(Redacted.value(url))
      let said = ""
      const socket = Net.connect({ host: hostname, port: Number(port) }, () => socket.write("MONITOR\r\n"))
      socket.setEncoding("utf8").on("data", (text: string) => {
        if (said === "") resume(Effect.succeed({ said: () => said, close: () => socket.destroy() }))
        said += text
      })
    }),
    ({ close }) => Effect.sync(close)
  )
