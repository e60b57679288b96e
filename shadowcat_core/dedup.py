"""Recognise a repeated event id in a stream, within a bounded window. No I/O."""

from shadowcat_core.limits import DEDUP_WINDOW_IDS


class DedupWindow:
    """Remembers the latest `max_ids` distinct ids; one look-up and at most two dict writes an id."""

    __slots__ = ("_ids", "_max_ids")

    def __init__(self, max_ids: int = DEDUP_WINDOW_IDS) -> None:
        # A dict keeps insertion order, so its first key is the oldest id.
        self._ids: dict[str, None] = {}
        self._max_ids = max_ids

    def __len__(self) -> int:
        return len(self._ids)

    def seen(self, event_id: str) -> bool:
        """Say whether the window knows this id, and remember it."""
        ids = self._ids
        if event_id in ids:
            return True
        ids[event_id] = None
        if len(ids) > self._max_ids:
            del ids[next(iter(ids))]
        return False
