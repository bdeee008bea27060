/**
 * Session stores on keys of their own, and a hand on their time.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Net from "node:net"
import * as RedisSessionLua from "../../src/redis/internal/RedisSessionLua.ts"
import * as RedisSessionStore from "../../src/redis/RedisSessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { type Client, client, freshPrefix, keysOf, redisUrl, type Reply } from "./redis.ts"

/** An instance of the store until the scope closes. */
export const instance = (options: RedisSessionStore.Options) =>
  Effect.map(Layer.build(Layer.fresh(RedisSessionStore.layer({ pruning: false, ...options }))), (context) =>
    Context.get(context, SessionStore)
  )

/** Moves all times under the prefix back: for the store, time went on. */
const advance = (prefix: string) => `
${RedisSessionLua.prelude(prefix)}
local by = tonumber(ARGV[1])
local function score(key, by)
  local all = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #all, 2 do redis.call('ZADD', key, text(all[i + 1] - by), all[i]) end
end
local function kinds(kind, f)
  local start = '${prefix}:' .. kind
  for _, key in ipairs(redis.call('KEYS', start .. '*')) do f(key, string.sub(key, #start + 1)) end
end
kinds('s:', function(key, id)
  local known, v = pcall(redis.call, 'GET', key)
  local s = known and parse(v)
  if not s or not s[AT] then return end
  s[CREATED] = number(s[CREATED], 16) and hex(tonumber(s[CREATED], 16) - by) or s[CREATED]
  if s[ENDED] ~= '' then s[ENDED] = hex(tonumber(s[ENDED], 16) - by) end
  if s[STAMP] ~= '0' then s[STAMP] = hex(tonumber(s[STAMP], 16) + 1) end
  put(id, s, content(s))
end)
kinds('t:', function(key, hash)
  local known, t = pcall(token, hash)
  if not known or not t.era then return end
  t.issued = t.issued and t.issued - by
  t.valid = t.valid and text(t.valid - by)
  keep(hash, t)
end)
for _, kind in ipairs({ 'b:', 'd:', 'due' }) do kinds(kind, function(key) score(key, by) end) end
for _, kind in ipairs({ 'p:', 'epochs' }) do kinds(kind, function(key) score(key, by * 1000) end) end
`

export const advanceOf =
  ({ send }: Client, prefix: string) =>
  (by: Duration.Input) =>
    Effect.asVoid(send("EVAL", advance(prefix), "0", String(Duration.toMillis(by))))

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

/** What the parts of a session are called, in the order of their text. */
const parts = [...RedisSessionLua.fields, "principal", "actor", "content"] as const
type Part = (typeof parts)[number]

/** The parts of a session as they are kept; undefined where there is none, or what is there makes no sense. */
export const keptSession = (reply: Reply): Record<Part, string> | undefined => {
  const [head = "", principal, actor, content] = String(reply).split("\0")
  const values = [...head.split(" "), principal, actor, content]
  if (values.length !== parts.length || content === undefined) return undefined
  return Object.fromEntries(parts.map((part, index) => [part, values[index] ?? ""])) as Record<Part, string>
}

/** The key of a session, or of a token, under a prefix. */
export const sessionKey = (prefix: string, id: string) => `${prefix}:s:${id.slice(2).replaceAll("-", "")}`
export const tokenKey = (prefix: string, hash: string) => `${prefix}:t:${hash.slice(0, 32)}`

/** Changes a session behind the store's back. */
export const rewrite = Effect.fnUntraced(function* (
  { send }: Client,
  prefix: string,
  id: string,
  changes: { readonly [Name in Part]?: string | undefined }
) {
  const key = sessionKey(prefix, id)
  const kept = keptSession(yield* send("GET", key))
  if (kept === undefined) return yield* Effect.die(new Error(`Session ${id} is not there`))
  const { actor, content, principal, ...fields } = { ...kept, ...changes }
  const head = RedisSessionLua.fields.map((field) => fields[field]).join(" ")
  yield* send("SET", key, [head, principal, actor, content].join("\0"))
})

/** The parts of a token. */
const keptToken = (text: string) => {
  const [, session, , era = "", rest] = /^([0-9a-f]{32})([0-9a-f]{11})(\d+)((?: \S*){5})?$/.exec(text) ?? []
  const [, nonce, valid, before, next, was] = (rest ?? "").split(" ")
  return { session, era, nonce, valid, before, next, was }
}

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
  const scores = (key: string) => Effect.map(send("ZRANGE", `${prefix}:${key}`, "0", "-1", "WITHSCORES"), pairs)
  const keys = yield* keysOf(own, `${prefix}:`)
  const [seconds = ""] = list(yield* send("TIME"))
  const now = Number(seconds) * 1000

  const sessions = new Map<string, Record<Part, string>>()
  for (const id of named("s", keys)) {
    const session = keptSession(yield* send("GET", `${prefix}:s:${id}`))
    if (session === undefined) wrong.push(`${id} cannot be read`)
    else sessions.set(id, session)
  }
  const created = (session: Record<Part, string>) => Number.parseInt(session.created, 16)
  const idleEnd = (session: Record<Part, string>) => {
    const idle = Number.parseInt(session.idle, 16)
    const touch = session.touch === "" ? Math.min(Math.ceil(idle / 10), 60_000) : Number.parseInt(session.touch, 16)
    return created(session) + Number(session.seen) + idle + touch
  }
  const absoluteEnd = (session: Record<Part, string>) => created(session) + Number(session.expires)

  const [blocks, due] = [yield* scores("blocks"), yield* scores("due")]
  const settled = new Set<string>()
  for (const block of new Set([...blocks.keys(), ...due.keys(), ...named("b", keys)])) {
    const all = yield* scores(`b:${block}`)
    if (blocks.get(block) !== block) wrong.push(`block ${block} is not among the blocks`)
    if (all.size === 0) wrong.push(`block ${block} is empty`)
    for (const [id, at] of all) {
      const session = sessions.get(id)
      if (session === undefined) {
        wrong.push(`block ${block} holds ${id}, which is not there`)
        continue
      }
      settled.add(id)
      if (session.block !== block) wrong.push(`${id} is in block ${block}, not ${session.block}`)
      const end = session.ended === "" ? absoluteEnd(session) : Number.parseInt(session.ended, 16)
      if (Number(at) !== end) wrong.push(`${id} is to be pruned by ${at}, not ${end}`)
      if (Number(due.get(block)) > Number(at)) wrong.push(`${id} ends before its block`)
    }
  }
  const indexed = new Set<string>()
  const tokens = new Map<string, ReturnType<typeof keptToken>>()
  for (const hash of named("t", keys)) tokens.set(hash, keptToken(String(yield* send("GET", `${prefix}:t:${hash}`))))
  for (const principal of new Set([...named("p", keys), ...named("d", keys)])) {
    const order = yield* scores(`p:${principal}`)
    const deadlines = yield* scores(`d:${principal}`)
    if (deadlines.size === 0 && order.size > 8) wrong.push(`${principal} has ${order.size} sessions without deadlines`)
    if (deadlines.size > 0 && deadlines.size !== order.size)
      wrong.push(`${principal} has ${order.size} sessions, ${deadlines.size} deadlines`)
    for (const id of order.keys()) {
      const session = sessions.get(id)
      if (session?.principal !== principal) wrong.push(`${id} is not ${principal}'s`)
      if (session === undefined) continue
      if (session.ended !== "") wrong.push(`${id} has ended and is listed`)
      const end = Math.min(absoluteEnd(session), idleEnd(session))
      const at = deadlines.get(id)
      if (deadlines.size > 0 && Number(at) !== end) wrong.push(`the deadline of ${id} is ${end}, not ${at}`)
      indexed.add(id)
    }
  }
  const reached = new Set<string>()
  const taken = new Set<string>()
  for (const [id, session] of sessions) {
    if (!settled.has(id)) wrong.push(`${id} would never be pruned`)
    if ((session.ended === "") !== session.content.includes("\n")) wrong.push(`${id} holds ${session.content}`)
    // What is over for good has no stamp.
    const isOver = created(session) + Number(session.seen) + Number.parseInt(session.idle, 16) < now
    if (session.principal !== "" && !isOver && session.stamp !== "0" && !indexed.has(id))
      wrong.push(`${id} is in no list`)
    if (session.ended !== "" && session.stamp !== "0") wrong.push(`${id} has ended and has a stamp`)
    let token: string | undefined = session.first || session.last
    while (token !== undefined && !reached.has(token)) {
      reached.add(token)
      const held = tokens.get(token)
      if (held?.session !== id && held?.was !== id) wrong.push(`a token of ${id} is missing or another's`)
      const next = held?.next || undefined
      if (next === undefined && token !== session.last) wrong.push(`the last token of ${id} is not the last`)
      token = next
    }
    if (token !== undefined) wrong.push(`the tokens of ${id} go in circles`)
    if (session.instead !== "") taken.add(session.instead)
  }
  for (const token of tokens.keys())
    if (!reached.has(token) && !taken.has(token)) wrong.push(`token ${token} is nobody's`)
  const known = /^[stpdb]:|^(blocks|due|epochs)$/
  // What an instance of an older version meets, for a day.
  const old = /^(session|token|sessions-of|deadlines-of):|^moving$/
  for (const key of keys) {
    const name = key.slice(prefix.length + 1)
    if (known.test(name)) continue
    const lasts = old.test(name) ? yield* send("TTL", key) : -1
    if (!(Number(lasts) > 0 && Number(lasts) <= 86_400)) wrong.push(`${key} is unknown`)
  }
  return wrong
})

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
