"""Recognise a repeated event id in a stream, within a bounded window. No I/O."""

from hashlib import blake2b

from shadowcat_core.limits import DEDUP_WINDOW_IDS

_LONG_ID_CHARS = 64
"""Servers' ids are shorter (UUIDs, counters); of a longer one its digest is remembered."""


class DedupWindow:
    """Remembers the latest `max_ids` distinct ids; one look-up and at most two dict writes an id."""

    __slots__ = ("_ids", "_max_ids")

    def __init__(self, max_ids: int = DEDUP_WINDOW_IDS) -> None:
        # A dict keeps insertion order, so its first key is the oldest id.
        self._ids: dict[str | bytes, None] = {}
        self._max_ids = max_ids

    def __len__(self) -> int:
        return len(self._ids)

    def seen(self, event_id: str) -> bool:
        """Say whether the window knows this id, and remember it."""
        ids = self._ids
        known: str | bytes = event_id
        if len(event_id) > _LONG_ID_CHARS:
            known = blake2b(event_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if known in ids:
            return True
        ids[known] = None
        if len(ids) > self._max_ids:
            del ids[next(iter(ids))]
        return False
