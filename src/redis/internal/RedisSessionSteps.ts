/** The steps that the scripts of `RedisSessionStore` are made of, over the sessions and tokens of `RedisSessionLua`. */

/** More arguments do not fit on the stack of Lua. */
const most = 1000
/** Ids in one message, which subscribers get in one piece. */
const told = 100
/** Expired sessions of a principal that a login drops on its way. Each login adds one. */
const dropped = 500
/** Sessions that are ended in one script, so that it holds up the others for a millisecond or two. */
const atOnce = 200
/** Tokens dead for a day that a login or renewal forgets on its way. It adds one. */
const forgotten = 10
/** So many sessions of a principal are looked at one by one. Those of more have their deadlines written beside. */
const few = 8

/** To stand behind what tells of keys, sessions, tokens and older versions. */
export const steps = `
local AT_ONCE = ${atOnce}

-- The state of a token's session, as far as the token is good for it; of a live one also when it ends, since when activity is
-- due and when the token is to be renewed.
local function find(full)
  local hash = name(full)
  local t = token(hash) or adopt_token(full) and token(hash)
  if not t then return 'missing' end
  local s = read(t.id)
  local state, at, due = state_of(s)
  if state ~= 'live' then return state, t, s end
  local valid = t.valid and number(t.valid)
  if not t.issued or not t.era or t.valid and not valid then return 'broken', t, s end
  if t.era ~= s[ERA] or valid and valid <= now then return 'superseded', t, s end
  return state, t, s, at, due, t.issued + number(s[RENEW], 16)
end

-- What the caller learns of a session: its state, its id, the nonce if it is to be renewed, and until when it need only be
-- confirmed; and, as a second text, all that is kept of it. Long texts are not put together, which costs Lua as much as to
-- read one. Of what is not there, the state is all.
local function row(state, id, text, nonce, upto)
  return state .. '\\0' .. id .. '\\0' .. (nonce or '') .. '\\0' .. (upto or ''), text
end

-- Two texts for each. What cannot be done for one takes no other down.
local function each(list, f, from)
  local answers = {}
  for i = from or 1, #list do
    local ok, told, kept = pcall(f, list[i])
    if not ok then told, kept = 'failed\\0' .. (type(told) == 'table' and told.err or tostring(told)), '' end
    answers[#answers + 1], answers[#answers + 2] = told, kept or ''
  end
  return answers
end

local function in_parts(list, f)
  for from = 1, #list, ${most} do f(unpack(list, from, math.min(from + ${most - 1}, #list))) end
end

-- Tells all instances.
local function tell(ids)
  local all = {}
  for i, id in ipairs(ids) do all[i] = long(id) end
  for from = 1, #all, ${told} do
    redis.call('PUBLISH', CHANNEL, table.concat(all, ' ', from, math.min(from + ${told - 1}, #all)))
  end
end

-- The moment of its end is another one, for a principal whose sessions have theirs written.
local function move(id, s)
  if s[PRINCIPAL] ~= '' then redis.call('ZADD', DEADLINES .. s[PRINCIPAL], 'XX', text((times(s))), id) end
end

-- Writes that a token was presented: the activity if it is due, and the end of grace for the token before.
local function present(hash, t, s, due)
  if not (due < now or t.before) then return false end
  if due < now then
    s[SEEN] = text(now - tonumber(s[CREATED], 16))
    move(t.id, s)
  end
  if t.before then
    local before = token(t.before)
    if before then
      before.valid = text(now + GRACE)
      keep(t.before, before)
    end
    t.before = nil
    keep(hash, t)
  end
  write(t.id, s)
  return true
end

-- A place among the sessions of the principal, by the moment of the login.
local function place(principal, id, order)
  redis.call('ZADD', ORDER .. principal, order, id)
  local crowd = redis.call('EXISTS', DEADLINES .. principal) == 1
  if not crowd and redis.call('ZCARD', ORDER .. principal) <= ${few} then return end
  for _, one in ipairs(crowd and { id } or redis.call('ZRANGE', ORDER .. principal, 0, -1)) do
    local ok, s = pcall(read, one)
    -- What cannot be told is not over.
    redis.call('ZADD', DEADLINES .. principal, text(ok and s and s[AT] and times(s) or 9007199254740991), one)
  end
end

local function place_last(principal, id)
  local newest = redis.call('ZRANGE', ORDER .. principal, -1, -1, 'WITHSCORES')
  place(principal, id, text(math.max(micros, newest[2] and newest[2] + 1 or 0)))
end

local function leave(principal, ids)
  in_parts(ids, function(...)
    redis.call('ZREM', ORDER .. principal, ...)
    redis.call('ZREM', DEADLINES .. principal, ...)
  end)
end

-- Expired sessions, of a principal if it is given, stay so though the clock be set back: nobody would count or end them.
local function drop(ids, principal)
  for _, id in ipairs(ids) do
    local ok, s = pcall(read, id)
    if ok and s and s[AT] then
      s[STAMP] = '0'
      put(id, s, content(s))
    end
  end
  if principal ~= '' then leave(principal, ids) end
end

-- Ends sessions, those of a principal if it is given. Of what cannot be read only that is left that it has ended.
local function finish(ids, principal)
  for _, id in ipairs(ids) do
    local ok, s = pcall(read, id)
    if not ok or not s or not s[AT] then
      s = {}
      for i = STAMP, ACTOR do s[i] = '' end
      s[PRINCIPAL] = principal
    end
    s[STAMP], s[ENDED] = '0', hex(now)
    put(id, s, '')
    if number(s[BLOCK]) then ends(id, s[BLOCK], now) end
  end
  if principal ~= '' then leave(principal, ids) end
  tell(ids)
end

-- The sessions that must go, from the oldest on, where all have their deadlines written; and whether only some were looked for.
local function eldest(principal, keep, spared)
  local live = redis.call('ZCOUNT', DEADLINES .. principal, '(' .. text(now), '+inf')
  if spared and redis.call('ZSCORE', DEADLINES .. principal, spared) then live = live - 1 end
  local displaced, from = {}, 0
  while live > keep and #displaced < AT_ONCE do
    local ids = redis.call('ZRANGE', ORDER .. principal, from, from + 99)
    if #ids == 0 then break end
    for _, id in ipairs(ids) do
      local at = live > keep and #displaced < AT_ONCE and id ~= spared and redis.call('ZSCORE', DEADLINES .. principal, id)
      if at and tonumber(at) > now then
        live = live - 1
        if redis.call('EXISTS', SESSION .. id) == 1 then displaced[#displaced + 1] = id end
      end
    end
    from = from + #ids
  end
  local over = redis.call('ZRANGEBYSCORE', DEADLINES .. principal, '-inf', text(now), 'LIMIT', 0, ${dropped})
  return displaced, over, live > keep and #displaced == AT_ONCE
end

-- The same where they are few.
local function eldest_of_few(principal, keep, spared)
  local live, over = {}, {}
  for _, id in ipairs(redis.call('ZRANGE', ORDER .. principal, 0, -1)) do
    local ok, s = pcall(read, id)
    local state = ok and state_of(s) or 'broken'
    local list = (state == 'live' or state == 'broken') and live or over
    if id ~= spared then list[#list + 1] = id end
  end
  for i = #live, math.max(#live - keep, 0) + 1, -1 do live[i] = nil end
  return live, over, false
end

-- Ends the oldest so that no more than so many live, beside the one that is spared. If they are a great many, only some, and
-- tells that there are more.
local function make_room(principal, keep, spared)
  local crowd = redis.call('EXISTS', DEADLINES .. principal) == 1
  local displaced, over, more = (crowd and eldest or eldest_of_few)(principal, keep, spared)
  drop(over, principal)
  finish(displaced, principal)
  return displaced, more
end

local function is_revoked_since(principal, epoch)
  if epoch == '' then return false end
  return tonumber(redis.call('ZSCORE', EPOCHS, principal) or 0) > tonumber(epoch)
end

-- Whether there is a token already. Nobody was given it by this store, so it is refused and nothing is done.
local function in_use(full) return redis.call('EXISTS', TOKEN .. name(full)) == 1 or adopt_token(full) end

-- A token of a session; the one before it is alive until it was presented, if it is given.
local function issue(full, id, era, before)
  keep(name(full), { id = id, issued = now, era = era, before = before })
  trip_token(full)
end

-- Takes the oldest tokens away that are dead for so long that nobody need be told any more; tells the first that is left.
local function forget(s)
  local first = first_of(s)
  for _ = 1, ${forgotten} do
    local t = token(first)
    local dead = t and (number(t.valid) or t.era ~= s[ERA] and number(s[CREATED], 16))
    if not t or not t.next or not dead or dead >= now - DAY then break end
    redis.call('DEL', TOKEN .. first)
    first = t.next
  end
  return first
end

-- Puts a token behind the last one, which is good until then if that is given.
local function succeed(s, next, valid)
  local first, t = forget(s), token(s[LAST])
  if t then
    t.next, t.valid = next, valid or t.valid
    keep(s[LAST], t)
  end
  s[FIRST], s[LAST] = first, next
end

-- Makes a token that leads to no live session one of another, which took its place: one that was replaced. It stays where it
-- is among the tokens of its own session.
local function follow(full, id, s)
  local state, t = find(full)
  if not t or state == 'live' or state == 'superseded' or state == 'broken' then return end
  t.was, t.id, t.era, t.valid, t.before = t.was or t.id, id, '0', text(now), nil
  keep(name(full), t)
  s[INSTEAD] = name(full)
  put(id, s, content(s))
end
`
