/** What goes through the sessions of everybody, a block after another: the bodies of scripts of `RedisSessionStore`. */

/**
 * A place as this script tells it, and how many sessions to look at. The next place, or '' at the end, and for each its
 * state and the session, if it is a visitor's.
 *
 * Whatever its end, a session stays in its block, and those that come later are in the same or a later one. So a place is
 * the number of a block, and up to which id those in it were told.
 */
export const visitors = `
local block, floor = string.match(ARGV[1], '^(%d+)%.(%x*)$')
local limit = tonumber(ARGV[2])
if adopt_some(limit) > 0 then return { ARGV[1], {} } end
local told, next = {}, ''
local numbers = redis.call('ZRANGEBYSCORE', BLOCKS, block, '+inf', 'LIMIT', 0, limit)
for _, one in ipairs(numbers) do
  local left = {}
  for _, id in ipairs(redis.call('ZRANGE', BLOCK_OF .. one, 0, -1)) do
    if one ~= block or id > floor then left[#left + 1] = id end
  end
  table.sort(left)
  for i = 1, math.min(#left, limit - #told) do
    told[#told + 1] = left[i]
    floor, block = left[i], one
  end
  if #told == limit then break end
end
-- Where there may be more: behind the last that was told, or behind the last block.
if #told == limit then next = block .. '.' .. floor
elseif #numbers == limit then next = text(tonumber(numbers[limit]) + 1) .. '.' end
return { next, each(told, function(id)
  local s = read(id)
  local state = state_of(s)
  if state ~= 'live' and state ~= 'broken' or s[PRINCIPAL] and s[PRINCIPAL] ~= '' then return 'missing' end
  return row(state, id, s.text)
end) }`

/**
 * Limit. How many sessions were removed, the microseconds it took (0 where the server cannot tell), and 1 if there is more:
 * because they had a great many tokens or blocks, of which one turn goes through only so many, or an older version's.
 */
export const prune = `
local limit = tonumber(ARGV[1])
-- Since Redis 7.2 the time stands still while a script runs; since 7.4 there is a clock of what it takes.
local has_clock, began = pcall(function() return os.clock() end)
local budget, pruned, more = limit * 8 + 100, 0, 0
if adopt_some(limit) > 0 then more = 1 end

-- Whether all of it went.
local function remove(id)
  local ok, s = pcall(read, id)
  if not ok or not s or not s[AT] then s = nil end
  local hash = s and first_of(s)
  while hash and budget > 0 do
    local known, t = pcall(token, hash)
    if not known or t and t.id == id then redis.call('DEL', TOKEN .. hash) end
    hash, budget = known and t and t.next, budget - 1
  end
  if hash then
    s[FIRST] = hash
    put(id, s, content(s))
    return false
  end
  if s and s[PRINCIPAL] ~= '' then leave(s[PRINCIPAL], { id }) end
  local instead = s and s[INSTEAD] ~= '' and s[INSTEAD]
  local t = instead and token(instead)
  if t and t.id == id then
    if t.was and redis.call('EXISTS', SESSION .. t.was) == 1 then
      t.id = t.was
      keep(instead, t)
    else redis.call('DEL', TOKEN .. instead) end
  end
  redis.call('DEL', SESSION .. id)
  return true
end

local over, blocks = text(now - DAY), 0
while pruned < limit do
  local block = redis.call('ZRANGEBYSCORE', DUE, '-inf', '(' .. over, 'LIMIT', 0, 1)[1]
  if not block then break end
  blocks = blocks + 1
  local stuck = blocks > limit + 100
  if not stuck then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', BLOCK_OF .. block, '-inf', '(' .. over, 'LIMIT', 0, limit - pruned)) do
      if not remove(id) then
        stuck = true
        break
      end
      redis.call('ZREM', BLOCK_OF .. block, id)
      pruned = pruned + 1
    end
  end
  -- What was written may be earlier than the earliest that is left: an end was put off.
  local earliest = redis.call('ZRANGE', BLOCK_OF .. block, 0, 0, 'WITHSCORES')[2]
  if earliest then redis.call('ZADD', DUE, earliest, block)
  else
    redis.call('ZREM', DUE, block)
    redis.call('ZREM', BLOCKS, block)
  end
  if stuck then
    more = 1
    break
  end
end
local epochs = redis.call('ZRANGEBYSCORE', EPOCHS, '-inf', '(' .. text(micros - DAY * 1000), 'LIMIT', 0, math.min(limit, ${1000}))
if #epochs > 0 then redis.call('ZREM', EPOCHS, unpack(epochs)) end
local over = redis.call('TIME')
local took = has_clock and (os.clock() - began) * 1000000 or over[1] * 1000000 + over[2] - micros
return { pruned, text(took), more }`

/** Milliseconds since the oldest tombstone could have been pruned. */
export const pruneLag = `
local oldest
-- The first block may hold none that ends so early, see \`prune\`.
for _, block in ipairs(redis.call('ZRANGE', DUE, 0, 99)) do
  local earliest = tonumber(redis.call('ZRANGE', BLOCK_OF .. block, 0, 0, 'WITHSCORES')[2])
  if earliest then oldest = math.min(oldest or earliest, earliest) end
end
return text(oldest and math.max(now - DAY - oldest, 0) or 0)`

/**
 * How many blocks and how many sessions to look at, and a number from 0 up to 1 that decides which. How many of the sessions that
 * were looked at live, how many those were, of how many that were not ended and are not too old, in how many blocks, of how many.
 *
 * Blocks are taken at equal distances, and so are sessions in them: those that began at the same time are alike.
 */
export const count = `
local most, looked, from = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local total = redis.call('ZCARD', BLOCKS)
local stride = math.max(total / most, 1)
local chosen, sum, after = {}, 0, '(' .. text(now)
for i = 0, math.min(total, most) - 1 do
  local at = math.floor((i + from) * stride)
  local block = redis.call('ZRANGE', BLOCKS, at, at)[1]
  if block then
    local left = redis.call('ZCOUNT', BLOCK_OF .. block, after, '+inf')
    chosen[#chosen + 1] = { block, left }
    sum = sum + left
  end
end
local step = math.max(sum / looked, 1)
local seen, live, next, at = 0, 0, from * step, 0
for _, one in ipairs(chosen) do
  while next < at + one[2] do
    local place = math.floor(next - at)
    local id = redis.call('ZRANGEBYSCORE', BLOCK_OF .. one[1], after, '+inf', 'LIMIT', place, 1)[1]
    local ok, s = pcall(read, id)
    if ok and state_of(s) == 'live' then live = live + 1 end
    seen, next = seen + 1, next + step
  end
  at = at + one[2]
end
return { text(live), text(seen), text(sum), text(#chosen), text(total) }`
