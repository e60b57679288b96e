"""Fixtures: addresses of stores with nothing in them. `pytest_plugins` names this module where they are used."""

import pytest

from shadowcat_core.sessions.redis_store import RedisStore

PATIENCE_MS = 30_000


@pytest.fixture(params=["sqlite", "redis"])
def address(request, tmp_path, monkeypatch):
    """A store with nothing in it, which is waited for on a busy machine."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/s.db"
    monkeypatch.setitem(RedisStore.__init__.__kwdefaults__, "timeout_ms", PATIENCE_MS)
    monkeypatch.setitem(RedisStore.from_url.__kwdefaults__, "timeout_ms", PATIENCE_MS)
    server = request.getfixturevalue("redis_server")
    server.command("FLUSHALL")
    return server.url


@pytest.fixture
def sqlite_address(tmp_path):
    return f"sqlite:{tmp_path}/s.db"
