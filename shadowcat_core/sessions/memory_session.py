"""One session while a store in memory holds it: the record, changeable in place. No I/O."""

from dataclasses import replace

from shadowcat_core.errors import StoreFull
from shadowcat_core.limits import MAX_SUBSCRIPTION_BYTES
from shadowcat_core.sessions.memory_log import StreamBuffer
from shadowcat_core.sessions.model import SessionRecord, SessionTimes, Upstream, subscription_bytes


class HeldSession:
    """A session's parts. Only what a touch needs is spelled out; the rest is put together when it is asked for."""

    __slots__ = (
        "_handshake",
        "_subscription_bytes",
        "_subscriptions",
        "created_ms",
        "ends_ms",
        "idle_ttl_ms",
        "log_level",
        "mapping",
        "session_id",
        "streams",
        "used_ms",
    )

    def __init__(self, record: SessionRecord) -> None:
        self.session_id = record.session_id
        self.mapping = record.mapping
        self.created_ms = record.times.created_ms
        self.used_ms = record.times.used_ms
        self.idle_ttl_ms = record.times.idle_ttl_ms
        self.ends_ms = record.times.ends_ms
        self.log_level = record.log_level
        self.streams: dict[str, StreamBuffer] = {}
        self._handshake = record.handshake
        self._subscriptions: dict[str, None] = dict.fromkeys(record.subscriptions)
        self._subscription_bytes = sum(map(subscription_bytes, record.subscriptions))

    @property
    def record(self) -> SessionRecord:
        """All of it, as a value."""
        times = SessionTimes(self.created_ms, self.used_ms, self.idle_ttl_ms, self.ends_ms - self.created_ms)
        return SessionRecord(self.mapping, self._handshake, times, tuple(self._subscriptions), self.log_level)

    @property
    def expires_ms(self) -> int:
        """The first moment at which it is over, unless it is used before."""
        return min(self.used_ms + self.idle_ttl_ms, self.ends_ms)

    def is_over(self, now_ms: int) -> bool:
        """True from the moment at which it expires."""
        return now_ms >= self.ends_ms or now_ms >= self.used_ms + self.idle_ttl_ms

    def touch(self, now_ms: int) -> bool:
        """Note a use. Returns False when it is over."""
        if now_ms >= self.ends_ms or now_ms >= self.used_ms + self.idle_ttl_ms:
            return False
        if now_ms > self.used_ms:
            self.used_ms = now_ms
        return True

    def move(self, upstream: Upstream, epoch: int) -> None:
        """Stand for another upstream session from now on."""
        self.mapping = replace(self.mapping, upstream=upstream, epoch=epoch)

    def bind_credential(self, credential: str) -> None:
        """Belong to another credential from now on."""
        self.mapping = replace(self.mapping, credential=credential)

    def subscribe(self, uri: str) -> None:
        """Remember a subscription.

        Raises:
            StoreFull: there are too many; this one is not kept.
        """
        if uri in self._subscriptions:
            return
        size = self._subscription_bytes + subscription_bytes(uri)
        if size > MAX_SUBSCRIPTION_BYTES:
            raise StoreFull("bytes of subscriptions in a session", MAX_SUBSCRIPTION_BYTES)
        self._subscriptions[uri] = None
        self._subscription_bytes = size

    def unsubscribe(self, uri: str) -> None:
        """Forget a subscription."""
        if uri in self._subscriptions:
            del self._subscriptions[uri]
            self._subscription_bytes -= subscription_bytes(uri)
