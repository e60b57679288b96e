"""The Lua scripts of a Redis store: each is one atomic step on the keys of one session, or on the index.

Keys of a session, which share a hash tag and so a slot of a cluster:
1 `session` (hash), 2 `subscriptions` (sorted set), 3 `streams` (hash), 4 `events` (hash), 5 `ended` (string).
The first argument of a session's script is the time. `docs/sessions.md` has the layout.
"""

from typing import Final

from shadowcat_core.sessions.redis_link import Script

_TIMES: Final = "'used', 'idle', 'ends'"
# One string: a driver written in Python takes longer to read five than the server to join them.
_MAPPING: Final = """
local function mapping()
    local m = redis.call('HMGET', KEYS[1], 'upstream', 'upstream_session', 'epoch', 'version', 'credential')
    return table.concat({m[1], m[2] or '', m[3], m[4], m[5]}, '\\n')
end
"""

SESSION_PRELUDE: Final = (
    _MAPPING
    + """
local now = tonumber(ARGV[1])
-- Lua would write a large number as 1.7e+12.
local function whole(number) return string.format('%d', number) end
local function due(used, idle, ends) return math.min(used + idle, tonumber(ends)) end
local function alive()
    local t = redis.call('HMGET', KEYS[1], 'used', 'idle', 'ends')
    return t[1] and now < due(t[1], t[2], t[3])
end
-- A key that was just made lives as long as its session may.
local function as_long_as_session(key)
    redis.call('PEXPIRE', key, redis.call('PTTL', KEYS[1]))
end
"""
)

GET: Final = Script(
    SESSION_PRELUDE
    + f"""
-- Likewise one string: of each value its length, a colon and itself; of none a minus.
local function packed(values, count)
    local parts = {{}}
    for at = 1, count do parts[at] = values[at] and (#values[at] .. ':' .. values[at]) or '-' end
    return table.concat(parts)
end
if not alive() then return false end
local uris = redis.call('ZRANGE', KEYS[2], 0, -1)
local fields = redis.call('HMGET', KEYS[1], 'created', {_TIMES}, 'log_level', 'request', 'result')
return packed({{mapping()}}, 1) .. packed(fields, 7) .. packed(uris, #uris)
"""
)

TOUCH: Final = Script(
    _MAPPING
    + f"""
local now = tonumber(ARGV[1])
local t = redis.call('HMGET', KEYS[1], {_TIMES})
if not t[1] then return false end
local used = tonumber(t[1])
if now >= used + t[2] or now >= tonumber(t[3]) then return false end
if now > used then redis.call('HSET', KEYS[1], 'used', ARGV[1]) end
return mapping()
"""
)

MAP: Final = Script(SESSION_PRELUDE + "return alive() and mapping()")

_PUT: Final = """
-- ARGV: now, ttl in ms, number of fields and values, these, then the URIs
local function put()
    local count = tonumber(ARGV[3])
    redis.call('HSET', KEYS[1], unpack(ARGV, 4, 3 + count))
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    local size = 0
    for at = 4 + count, #ARGV do
        redis.call('ZADD', KEYS[2], at, ARGV[at])
        size = size + #ARGV[at] + 64
    end
    if size > 0 then
        redis.call('HSET', KEYS[1], 'subscription_bytes', size, 'places', #ARGV)
        as_long_as_session(KEYS[2])
    end
end
"""

CREATE: Final = Script(
    SESSION_PRELUDE
    + _PUT
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
put()
return 1
"""
)

RESTORE: Final = Script(
    SESSION_PRELUDE
    + _PUT
    + """
local given = {}
for at = 4, 3 + ARGV[3], 2 do given[ARGV[at]] = ARGV[at + 1] end
local t = redis.call('HMGET', KEYS[1], 'epoch', 'used')
if not t[1] then
    if now >= due(given.used, given.idle, given.ends) or redis.call('EXISTS', KEYS[5]) == 1 then return false end
    put()
else
    if tonumber(given.used) > tonumber(t[2]) then redis.call('HSET', KEYS[1], 'used', given.used) end
    if tonumber(given.epoch) > tonumber(t[1]) then
        redis.call('HSET', KEYS[1], 'epoch', given.epoch, 'upstream', given.upstream)
        if given.upstream_session then
            redis.call('HSET', KEYS[1], 'upstream_session', given.upstream_session)
        else
            redis.call('HDEL', KEYS[1], 'upstream_session')
        end
    end
end
return alive() and mapping()
"""
)

REBIND: Final = Script(
    SESSION_PRELUDE
    + f"""
-- ARGV: now, expected epoch, upstream, its session id or nothing
if not alive() then return false end
local t = redis.call('HMGET', KEYS[1], 'epoch', 'upstream', 'upstream_session')
local moved = t[1] == ARGV[2]
if moved then
    redis.call('HSET', KEYS[1], 'upstream', ARGV[3])
    if ARGV[4] then
        redis.call('HSET', KEYS[1], 'upstream_session', ARGV[4])
    else
        redis.call('HDEL', KEYS[1], 'upstream_session')
    end
    redis.call('HINCRBY', KEYS[1], 'epoch', 1)
end
return {{moved and 1 or 0, t[2], t[3], mapping(), redis.call('HMGET', KEYS[1], 'created', {_TIMES})}}
"""
)

REBIND_CREDENTIAL: Final = Script(
    SESSION_PRELUDE
    + """
-- ARGV: now, expected, new
if not alive() then return 0 end
local bound = redis.call('HGET', KEYS[1], 'credential')
if bound ~= ARGV[2] and bound ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'credential', ARGV[3])
return 1
"""
)

SET_LOG_LEVEL: Final = Script(
    SESSION_PRELUDE
    + """
-- ARGV: now, level or nothing
if not alive() then return 0 end
if ARGV[2] then redis.call('HSET', KEYS[1], 'log_level', ARGV[2]) else redis.call('HDEL', KEYS[1], 'log_level') end
return 1
"""
)

SUBSCRIBE: Final = Script(
    SESSION_PRELUDE
    + """
-- ARGV: now, URI, its share of the bound, the bound
if not alive() then return 0 end
if redis.call('ZSCORE', KEYS[2], ARGV[2]) then return 1 end
local size = tonumber(redis.call('HGET', KEYS[1], 'subscription_bytes') or 0) + ARGV[3]
if size > tonumber(ARGV[4]) then return 2 end
redis.call('HSET', KEYS[1], 'subscription_bytes', size)
redis.call('ZADD', KEYS[2], redis.call('HINCRBY', KEYS[1], 'places', 1), ARGV[2])
as_long_as_session(KEYS[2])
return 1
"""
)

UNSUBSCRIBE: Final = Script(
    SESSION_PRELUDE
    + """
-- ARGV: now, URI, its share of the bound
if not alive() then return 0 end
if redis.call('ZREM', KEYS[2], ARGV[2]) == 1 then
    redis.call('HINCRBY', KEYS[1], 'subscription_bytes', -ARGV[3])
end
return 1
"""
)

END: Final = Script(
    SESSION_PRELUDE
    + """
-- ARGV: now, how long to know that it was ended, in ms
if not alive() then return false end
local ended = mapping()
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('SET', KEYS[5], 1, 'PX', ARGV[2])
return ended
"""
)

REAP: Final = Script(
    SESSION_PRELUDE
    + f"""
-- An expired session is taken away: its mapping. One that lives on: the moment when it may be over. Gone: nothing.
local t = redis.call('HMGET', KEYS[1], {_TIMES})
if not t[1] then return false end
if alive() then return due(t[1], t[2], t[3]) end
local over = mapping()
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
return over
"""
)

# The index, in a slot of its own. KEYS: 1 `order` (sorted set, all scores 0), 2 `due` (sorted set by the moment before
# which a session cannot be over), 3 `at` (hash: beginning, epoch and upstream of a session), 4 `upstreams` (hash: how
# many sessions). A member of `order` is its beginning as 16 hexadecimal digits and the session id.
_INDEX: Final = """
local function read(id)
    local at = redis.call('HGET', KEYS[3], id)
    if not at then return nil end
    local created, epoch, upstream = string.match(at, '^(%x+) (%d+) (.*)$')
    return created, tonumber(epoch), upstream
end
local function leave(upstream)
    if redis.call('HINCRBY', KEYS[4], upstream, -1) == 0 then redis.call('HDEL', KEYS[4], upstream) end
end
"""

ENLIST: Final = Script(
    _INDEX
    + """
-- ARGV: id, beginning, due, epoch, upstream, how many there may be, 1 to merge with one that is there.
-- Returns 0 for full, 1 for there, 2 for new.
local created, epoch, upstream = read(ARGV[1])
if created then
    if ARGV[7] == '0' then return 1 end
    redis.call('ZADD', KEYS[2], 'GT', ARGV[3], ARGV[1])
    if epoch >= tonumber(ARGV[4]) then return 1 end
    leave(upstream)
else
    if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[6]) then return 0 end
    created = ARGV[2]
    redis.call('ZADD', KEYS[1], 0, created .. ARGV[1])
    redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
end
redis.call('HSET', KEYS[3], ARGV[1], created .. ' ' .. ARGV[4] .. ' ' .. ARGV[5])
redis.call('HINCRBY', KEYS[4], ARGV[5], 1)
return epoch and 1 or 2
"""
)

DELIST: Final = Script(
    _INDEX
    + """
-- ARGV: id, and a moment: who is due later was enlisted anew, and stays.
local created, epoch, upstream = read(ARGV[1])
if not created then return 0 end
if ARGV[2] and tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1])) > tonumber(ARGV[2]) then return 0 end
redis.call('ZREM', KEYS[1], created .. ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
leave(upstream)
return 1
"""
)

POSTPONE: Final = Script("return redis.call('ZADD', KEYS[2], 'XX', 'GT', ARGV[2], ARGV[1])")

DUE: Final = Script("return redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])")

PAGE: Final = Script("return redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], '+', 'LIMIT', 0, ARGV[2])")

COUNT: Final = Script(
    "if ARGV[1] then return tonumber(redis.call('HGET', KEYS[4], ARGV[1]) or 0) end return redis.call('ZCARD', KEYS[1])"
)

# Who stands for an upstream's session: one string, in the slot of that session's name.
NAME: Final = Script("return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])")
UNNAME: Final = Script("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1")
NAMED: Final = Script("return redis.call('GET', KEYS[1])")
