"""The store in Redis or a Redis cluster: any number of proxies on any number of machines.

A verb is one round trip; `find`, `list`, `end`, `expire`, `restore` and a `rebind` that moves are two or three, and are
not on the way of a request. `docs/sessions.md` has the table, the layout of the keys and what to consider.
"""

from collections.abc import Sequence
from typing import Any, Final, Self

from shadowcat_core.errors import StoreError, StoreFull
from shadowcat_core.limits import (
    ENDED_SESSIONS_MS,
    EXPIRE_BATCH_SESSIONS,
    MAX_SESSIONS,
    MAX_SUBSCRIPTION_BYTES,
    MISSED_EVENTS_PAGE,
    SESSION_PAGE,
    STORE_TIMEOUT_MS,
)
from shadowcat_core.sessions import redis_log_scripts as log
from shadowcat_core.sessions import redis_scripts as scripts
from shadowcat_core.sessions.events import Event, LoggedEvent, Missed, Retention, StreamInfo, parse_event_id
from shadowcat_core.sessions.model import (
    ClockMs,
    SessionMapping,
    SessionRecord,
    SessionTimes,
    Upstream,
    subscription_bytes,
)
from shadowcat_core.sessions.redis_index import RedisIndex
from shadowcat_core.sessions.redis_keys import (
    Keys,
    events_of,
    fields_of,
    mapping_of,
    record_of,
    stream_of,
    streams_of,
)
from shadowcat_core.sessions.redis_link import Call, RedisClient, RedisLink, Script, Value, connect
from shadowcat_core.sessions.store import Page, check_page, read_cursor, wall_clock_ms, write_cursor

_GRACE_MS: Final = 10 * 60 * 1000
"""Keys outlive their session by this, so that `expire` finds it; after it Redis takes them away by itself."""
_SUBSCRIBED_OVER: Final = 2


class RedisStore:
    """Sessions and events in Redis 6.2 or later; proxies that use the same `prefix` share them.

    `client` is a `redis.asyncio.Redis` or `RedisCluster` that gives bytes (no `decode_responses`); it belongs to the
    store, which closes it. Its pool and its TLS are its own affair; the store uses 16 connections at most, and waits
    for none of its answers longer than `timeout_ms`.

    Raises:
        StoreError: redis-py is not installed, or the client gives text.
    """

    def __init__(
        self,
        client: RedisClient,
        *,
        prefix: str = "shadowcat",
        timeout_ms: int = STORE_TIMEOUT_MS,
        clock_ms: ClockMs = wall_clock_ms,
        max_sessions: int = MAX_SESSIONS,
        retention: Retention | None = None,
    ) -> None:
        if client.get_encoder().decode_responses:
            raise StoreError("the store keeps bytes: give it a client without decode_responses")
        self._clock_ms = clock_ms
        self._keys = Keys(prefix)
        self._link = RedisLink(client, timeout_ms)
        self._index = RedisIndex(self._link, self._keys, max_sessions)
        self._max_sessions = max_sessions
        self._retention = retention or Retention()

    @classmethod
    def from_url(cls, url: str, *, timeout_ms: int = STORE_TIMEOUT_MS, **options: Any) -> Self:
        """Make a store with a client and pool of its own.

        Raises:
            StoreError: redis-py is not installed, or the URL is none of its kinds.
        """
        return cls(connect(url, timeout_ms), timeout_ms=timeout_ms, **options)

    async def create(self, record: SessionRecord) -> bool:
        enlisted, created, *_ = await self._link.run_all(
            [self._enlist(record, merge=False), self._put(scripts.CREATE, record), *self._name(record)]
        )
        if created and not enlisted:
            await self._link.run_all([self._call(scripts.END, record.session_id, 1), *self._index.gone(record.mapping)])
            raise StoreFull("sessions", self._max_sessions)
        return bool(created)

    async def get(self, session_id: str) -> SessionRecord | None:
        return record_of(session_id, await self._run(scripts.GET, session_id))

    async def get_many(self, session_ids: Sequence[str]) -> Sequence[SessionRecord | None]:
        answers = await self._link.run_all([self._call(scripts.GET, session_id) for session_id in session_ids])
        return [record_of(session_id, answer) for session_id, answer in zip(session_ids, answers, strict=True)]

    async def touch(self, session_id: str) -> SessionMapping | None:
        # One key and not five: this is asked for every request.
        call = Call(scripts.TOUCH, self._keys.session(session_id)[:1], (self._clock_ms(),))
        return mapping_of(session_id, await self._link.run(call))

    async def touch_many(self, session_ids: Sequence[str]) -> Sequence[SessionMapping | None]:
        answers = await self._link.run_all([self._call(scripts.TOUCH, session_id) for session_id in session_ids])
        return [mapping_of(session_id, answer) for session_id, answer in zip(session_ids, answers, strict=True)]

    async def find(self, upstream: Upstream) -> SessionMapping | None:
        session_id = await self._index.named(upstream)
        if session_id is None:
            return None
        mapping = mapping_of(session_id, await self._run(scripts.MAP, session_id))
        return mapping if mapping is not None and mapping.upstream == upstream else None

    async def rebind(self, session_id: str, expected_epoch: int, upstream: Upstream) -> SessionMapping | None:
        target = [upstream.name, *([] if upstream.session_id is None else [upstream.session_id])]
        answer = await self._run(scripts.REBIND, session_id, expected_epoch, *target)
        if answer is None:
            return None
        moved, old_name, old_id, in_force, fields = answer
        mapping = mapping_of(session_id, in_force)
        if moved and mapping is not None:
            old = Upstream(old_name.decode(), None if old_id is None else old_id.decode())
            created, used, idle, ends = map(int, fields)
            times = SessionTimes(created, used, idle, ends - created)
            await self._link.run_all(
                [
                    self._index.enlist(mapping, times, merge=True),
                    *self._index.unname(old, session_id),
                    *self._index.name(upstream, session_id, self._ttl_ms(times)),
                ]
            )
        return mapping

    async def rebind_credential(self, session_id: str, expected: str, credential: str) -> bool:
        return bool(await self._run(scripts.REBIND_CREDENTIAL, session_id, expected, credential))

    async def add_subscription(self, session_id: str, uri: str) -> bool:
        size, bound = subscription_bytes(uri), int(MAX_SUBSCRIPTION_BYTES)
        answer = await self._run(scripts.SUBSCRIBE, session_id, uri, size, bound)
        if answer == _SUBSCRIBED_OVER:
            raise StoreFull("bytes of subscriptions in a session", bound)
        return bool(answer)

    async def remove_subscription(self, session_id: str, uri: str) -> bool:
        return bool(await self._run(scripts.UNSUBSCRIBE, session_id, uri, subscription_bytes(uri)))

    async def set_log_level(self, session_id: str, level: str | None) -> bool:
        return bool(await self._run(scripts.SET_LOG_LEVEL, session_id, *([] if level is None else [level])))

    async def end(self, session_id: str) -> SessionMapping | None:
        return (await self.end_many([session_id]))[0]

    async def end_many(self, session_ids: Sequence[str]) -> Sequence[SessionMapping | None]:
        known_ms = int(ENDED_SESSIONS_MS)
        answers = await self._link.run_all([self._call(scripts.END, each, known_ms) for each in session_ids])
        ended = [mapping_of(session_id, answer) for session_id, answer in zip(session_ids, answers, strict=True)]
        await self._link.run_all([call for each in ended if each is not None for call in self._index.gone(each)])
        return ended

    async def expire(self, limit: int = EXPIRE_BATCH_SESSIONS) -> Sequence[SessionMapping]:
        now_ms = self._clock_ms()
        due = await self._index.due(now_ms, limit)
        answers = await self._link.run_all([self._call(scripts.REAP, session_id) for session_id in due])
        expired: list[SessionMapping] = []
        changes: list[Call] = []
        for session_id, answer in zip(due, answers, strict=True):
            if isinstance(answer, int):
                changes.append(self._index.postpone(session_id, answer))
                continue
            mapping = mapping_of(session_id, answer)
            if mapping is None:  # its keys are gone: another took it away, or Redis did
                changes.append(self._index.delist(session_id, now_ms))
            else:
                changes += self._index.gone(mapping, now_ms)
                expired.append(mapping)
        await self._link.run_all(changes)
        return expired

    async def restore(self, records: Sequence[SessionRecord]) -> Sequence[SessionMapping | None]:
        calls = [self._enlist(record, merge=True) for record in records] + [
            self._put(scripts.RESTORE, each) for each in records
        ]
        answers = await self._link.run_all(calls)
        mappings: list[SessionMapping | None] = []
        changes: list[Call] = []
        for record, enlisted, answer in zip(records, answers, answers[len(records) :], strict=False):
            mapping = mapping_of(record.session_id, answer)
            if mapping is None and enlisted == RedisIndex.NEW:
                changes.append(self._index.delist(record.session_id))
            elif mapping is not None and not enlisted:
                changes.append(self._call(scripts.END, record.session_id, 1))
                mapping = None
            elif mapping is not None:
                changes += self._index.name(mapping.upstream, record.session_id, self._ttl_ms(record.times))
            mappings.append(mapping)
        await self._link.run_all(changes)
        return mappings

    async def list(self, cursor: str | None = None, limit: int = SESSION_PAGE) -> Page:
        check_page(limit)
        start = None if cursor is None else read_cursor(cursor)
        members = await self._index.page(start, limit)
        records = await self.get_many([session_id for _, session_id in members])
        more = len(members) == limit
        return Page([each for each in records if each is not None], write_cursor(*members[-1]) if more else None)

    async def count(self, upstream: str | None = None) -> int:
        return await self._index.count(upstream)

    async def open_stream(
        self, session_id: str, stream_id: str, label: str = "", events: Sequence[Event] = (), *, closed: bool = False
    ) -> bool:
        stream = StreamInfo(stream_id, label)
        head = (stream.stream_id, stream.label, self._retention.max_streams, int(closed))
        return bool(await self._run(log.OPEN, session_id, *head, *self._pushed(events)))

    async def append(
        self, session_id: str, stream_id: str, events: Sequence[Event], *, position: int, closed: bool = False
    ) -> bool:
        pushed = self._pushed(events)
        return bool(await self._run(log.APPEND, session_id, stream_id, position, int(closed), *pushed))

    async def after(self, session_id: str, last_event_id: str, limit: int = MISSED_EVENTS_PAGE) -> Missed | None:
        check_page(limit)
        place = parse_event_id(last_event_id)
        if place is None:
            return None
        stream_id, position = place
        since_ms = self._clock_ms() - self._retention.max_age_ms
        answer = await self._run(log.AFTER, session_id, stream_id, position, limit, since_ms)
        stream = stream_of(stream_id, answer and answer[0])
        if stream is None:
            return None
        return Missed(stream, events_of(answer[1], answer[2]), max(0, answer[1] - position - 1))

    async def stream_of(self, session_id: str, last_event_id: str) -> StreamInfo | None:
        place = parse_event_id(last_event_id)
        return None if place is None else stream_of(place[0], await self._run(log.STREAM, session_id, place[0]))

    async def streams(self, session_id: str) -> Sequence[StreamInfo]:
        return streams_of(await self._run(log.STREAMS, session_id))

    async def close_stream(self, session_id: str, stream_id: str) -> bool:
        return bool(await self._run(log.CLOSE, session_id, stream_id))

    async def restore_stream(self, session_id: str, stream: StreamInfo, events: Sequence[LoggedEvent]) -> bool:
        head = (stream.stream_id, stream.label, stream.position, int(stream.closed), stream.upstream_event_id)
        pushed = self._pushed([each.event for each in events])
        return bool(await self._run(log.RESTORE_STREAM, session_id, *head, self._retention.max_streams, *pushed))

    async def aclose(self) -> None:
        await self._link.aclose()

    def _call(self, script: Script, session_id: str, *arguments: Value) -> Call:
        return Call(script, self._keys.session(session_id), (self._clock_ms(), *arguments))

    async def _run(self, script: Script, session_id: str, *arguments: Value) -> Any:
        return await self._link.run(self._call(script, session_id, *arguments))

    def _put(self, script: Script, record: SessionRecord) -> Call:
        fields = fields_of(record)
        return self._call(
            script, record.session_id, self._ttl_ms(record.times), len(fields), *fields, *record.subscriptions
        )

    def _pushed(self, events: Sequence[Event]) -> Sequence[Value]:
        keeps = self._retention
        flat = [part for event in events for part in (event.upstream_id, event.size, event.data)]
        return (keeps.max_events, keeps.max_bytes, keeps.max_age_ms, *flat)

    def _enlist(self, record: SessionRecord, *, merge: bool) -> Call:
        return self._index.enlist(record.mapping, record.times, merge=merge)

    def _name(self, record: SessionRecord) -> Sequence[Call]:
        return self._index.name(record.mapping.upstream, record.session_id, self._ttl_ms(record.times))

    def _ttl_ms(self, times: SessionTimes) -> int:
        return max(0, times.ends_ms - self._clock_ms()) + _GRACE_MS
