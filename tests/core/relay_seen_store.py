"""A store that tells what sessions have been through."""

from shadowcat_core.sessions.memory_store import MemoryStore


class SeenStore(MemoryStore):
    """A store whose moves are seen: which upstream session was in force in which epoch of which session."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.in_force = {}

    async def create(self, record) -> bool:
        self.see(record.mapping)
        return await super().create(record)

    async def rebind(self, session_id, expected_epoch, upstream):
        mapping = await super().rebind(session_id, expected_epoch, upstream)
        if mapping is not None:
            self.see(mapping)
        return mapping

    def see(self, mapping) -> None:
        known = self.in_force.setdefault((mapping.session_id, mapping.epoch), mapping.upstream)
        assert known == mapping.upstream, "one epoch of a session has two upstream sessions"
