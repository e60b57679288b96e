"""The Lua scripts of the event log in Redis; keys and time as in `redis_scripts`.

A value of `streams` is `place position first size newest closed`, a line end, the upstream's last event id, a line
end, the label. A field of `events` is `stream:position`; its value is the time, the size, the upstream's event id, each
with a line end, and the data.
"""

from typing import Final

from shadowcat_core.sessions.redis_link import Script
from shadowcat_core.sessions.redis_scripts import SESSION_PRELUDE

_LOG: Final = (
    SESSION_PRELUDE
    + """
local function read(id)
    local value = redis.call('HGET', KEYS[3], id)
    if not value then return nil end
    local place, position, first, size, newest, closed, upstream, label =
        string.match(value, '^(%d+) (%d+) (%d+) (%d+) (%d+) ([01])\\n([^\\n]*)\\n(.*)$')
    return {
        place = tonumber(place), position = tonumber(position), first = tonumber(first), size = tonumber(size),
        newest = tonumber(newest), closed = closed, upstream = upstream, label = label
    }
end
local function write(id, s)
    redis.call('HSET', KEYS[3], id, string.format('%d %d %d %d %d %s\\n%s\\n%s',
        s.place, s.position, s.first, s.size, s.newest, s.closed, s.upstream, s.label))
end
local function forget_all(id, s)
    for at = s.first, s.position do redis.call('HDEL', KEYS[4], id .. ':' .. at) end
end
local function make(id, label, position, max_streams)
    if redis.call('HLEN', KEYS[3]) >= max_streams then
        -- A busy session has as many as it may: this is done for each that it opens.
        local all, oldest, oldest_place, oldest_closed = redis.call('HGETALL', KEYS[3]), nil, nil, ''
        for at = 1, #all, 2 do
            local place, closed = string.match(all[at + 1], '^(%d+) %d+ %d+ %d+ %d+ ([01])')
            place = tonumber(place)
            if closed > oldest_closed or (closed == oldest_closed and place < oldest_place) then
                oldest, oldest_place, oldest_closed = all[at], place, closed
            end
        end
        forget_all(oldest, read(oldest))
        redis.call('HDEL', KEYS[3], oldest)
    end
    local s = {
        place = redis.call('HINCRBY', KEYS[1], 'places', 1), position = position, first = position + 1, size = 0,
        newest = 0, closed = '0', upstream = '', label = label
    }
    write(id, s)
    as_long_as_session(KEYS[3])
    return s
end
-- ARGV from `at` on: events, bytes and age that are kept; then for each event its upstream id, size and data
local function push(id, s, at)
    local max_events, max_size, max_age = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    s.newest = math.max(s.newest, now)
    for each = at + 3, #ARGV, 3 do
        s.position = s.position + 1
        s.size = s.size + ARGV[each + 1]
        if ARGV[each] ~= '' then s.upstream = ARGV[each] end
        redis.call('HSET', KEYS[4], id .. ':' .. s.position,
            whole(s.newest) .. '\\n' .. ARGV[each + 1] .. '\\n' .. ARGV[each] .. '\\n' .. ARGV[each + 2])
    end
    if #ARGV > at + 2 then as_long_as_session(KEYS[4]) end
    while s.first <= s.position do
        local field = id .. ':' .. s.first
        local time, size = string.match(redis.call('HGET', KEYS[4], field), '^(%d+)\\n(%d+)\\n')
        local over = s.position - s.first + 1 > max_events or s.size > max_size
        if not over and tonumber(time) > s.newest - max_age then break end
        redis.call('HDEL', KEYS[4], field)
        s.first = s.first + 1
        s.size = s.size - size
    end
    write(id, s)
end
"""
)

OPEN: Final = Script(
    _LOG
    + """
-- ARGV: now, id, label, how many streams there may be, closed, then as `push`
if not alive() then return 0 end
local s, has_events = read(ARGV[2]), #ARGV > 8
if has_events and s and (s.closed == '1' or s.position ~= 0) then return 0 end
s = s or make(ARGV[2], ARGV[3], 0, tonumber(ARGV[4]))
if ARGV[5] == '1' then s.closed = '1' end
if has_events then push(ARGV[2], s, 6) else write(ARGV[2], s) end
return 1
"""
)

APPEND: Final = Script(
    _LOG
    + """
-- ARGV: now, id, position, closed, then as `push`
local s = alive() and read(ARGV[2])
if not s or s.closed == '1' or s.position ~= tonumber(ARGV[3]) then return 0 end
s.closed = ARGV[4]
push(ARGV[2], s, 5)
return 1
"""
)

AFTER: Final = Script(
    _LOG
    + """
-- ARGV: now, id, position, how many, not before
local s = alive() and read(ARGV[2])
if not s then return false end
local first, events = math.max(tonumber(ARGV[3]) + 1, s.first), {}
for at = first, s.position do
    local value = redis.call('HGET', KEYS[4], ARGV[2] .. ':' .. at)
    if #events == 0 and tonumber(string.match(value, '^%d+')) <= tonumber(ARGV[5]) then
        first = at + 1
    else
        events[#events + 1] = value
    end
    if #events == tonumber(ARGV[4]) then break end
end
return {redis.call('HGET', KEYS[3], ARGV[2]), first, events}
"""
)

STREAM: Final = Script(SESSION_PRELUDE + "return alive() and redis.call('HGET', KEYS[3], ARGV[2])")

STREAMS: Final = Script(SESSION_PRELUDE + "return alive() and redis.call('HGETALL', KEYS[3])")

CLOSE: Final = Script(
    _LOG
    + """
local s = alive() and read(ARGV[2])
if not s then return 0 end
s.closed = '1'
write(ARGV[2], s)
return 1
"""
)

RESTORE_STREAM: Final = Script(
    _LOG
    + """
-- ARGV: now, id, label, position, closed, upstream's last event id, how many streams there may be, then as `push`
if not alive() then return 0 end
local s, position = read(ARGV[2]), tonumber(ARGV[4])
if not s or s.position < position then
    if s then
        forget_all(ARGV[2], s)
        redis.call('HDEL', KEYS[3], ARGV[2])
    end
    s = make(ARGV[2], ARGV[3], position - (#ARGV - 10) / 3, tonumber(ARGV[7]))
    push(ARGV[2], s, 8)
    s.upstream = ARGV[6]
end
if ARGV[5] == '1' then s.closed = '1' end
write(ARGV[2], s)
return 1
"""
)
