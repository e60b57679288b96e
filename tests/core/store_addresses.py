"""Fixtures: addresses of stores with nothing in them. `pytest_plugins` names this module where they are used."""

import pytest


@pytest.fixture(params=["sqlite", "redis"])
def address(request, tmp_path):
    """A store with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/s.db"
    server = request.getfixturevalue("redis_server")
    server.command("FLUSHALL")
    return server.url


@pytest.fixture
def sqlite_address(tmp_path):
    return f"sqlite:{tmp_path}/s.db"
