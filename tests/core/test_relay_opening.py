"""Opening the store that a configuration names, and the key that proxies share."""

import os
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from shadowcat_core.errors import StoreError, StoreUnavailable
from shadowcat_core.relay.opening import KEY_BYTES, open_store, session_key
from shadowcat_core.sessions import (
    CredentialBinder,
    Handshake,
    MemoryStore,
    RedisStore,
    ResilientStore,
    SessionTimes,
    SqliteStore,
    Upstream,
    begin_session,
)
from shadowcat_core.upstreams import SessionsConfig
from tests.store_contract.redis_server import RedisServer

pytest_plugins = ["tests.store_contract.fixtures"]

NOBODY_LISTENS = "redis://127.0.0.1:1/0"


def sessions(store, **fields):
    return SessionsConfig(store=store, **fields)


def record(now_ms=0):
    return begin_session(
        Upstream("tools-1", "s"),
        Handshake(b"{}", b"{}"),
        "2025-11-25",
        credential="",
        times=SessionTimes(now_ms, now_ms),
    )


# --- The store --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "on_outage", "kind"),
    [
        ("memory", "open", MemoryStore),
        ("memory", "closed", MemoryStore),
        ("sqlite:{}/s.db", "open", ResilientStore),
        ("sqlite:{}/s.db", "closed", SqliteStore),
        (NOBODY_LISTENS, "open", ResilientStore),
        (NOBODY_LISTENS, "closed", RedisStore),
    ],
)
async def test_each_address_opens_its_store_and_an_open_one_goes_on_without_it(tmp_path, address, on_outage, kind):
    store = open_store(sessions(address.format(tmp_path), on_outage=on_outage))
    assert type(store) is kind
    await store.aclose()


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_what_one_proxy_begins_another_one_finds(tmp_path, kind, redis_server: RedisServer):
    address = redis_server.url if kind == "redis" else f"sqlite:{tmp_path}/s.db"
    begun = record(now_ms=1_000)
    one = open_store(sessions(address), clock_ms=lambda: 1_000)
    other = open_store(sessions(address, on_outage="closed"), clock_ms=lambda: 1_000)
    assert await one.create(begun)
    assert await other.get(begun.session_id) == begun
    await one.end(begun.session_id)
    await one.aclose()
    await other.aclose()


async def test_an_outage_is_reported_when_it_is_open_and_raised_when_it_is_closed():
    reports = []
    store = open_store(sessions(NOBODY_LISTENS), on_report=reports.append)
    assert await store.create(record(now_ms=1))
    assert isinstance(reports[0].error, StoreUnavailable)
    await store.aclose()
    store = open_store(sessions(NOBODY_LISTENS, on_outage="closed"), on_report=reports.append)
    with pytest.raises(StoreUnavailable):
        await store.create(record(now_ms=1))
    await store.aclose()


async def test_a_path_may_begin_with_the_persons_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    await open_store(sessions("sqlite:~/s.db")).aclose()
    assert (tmp_path / "s.db").is_file()
    with pytest.raises(StoreError, match="~nobody-of-that-name"):
        open_store(sessions("sqlite:~nobody-of-that-name/s.db"))


async def test_a_file_that_can_never_be_used_is_a_mistake_and_no_outage(tmp_path):
    (tmp_path / "notes.txt").write_text("these are no tables" * 100)
    with closing(sqlite3.connect(tmp_path / "newer.db")) as newer:
        newer.execute("pragma user_version=99")
    for name, said in [
        ("missing/s.db", "there is no directory .*missing; make it"),
        ("notes.txt/s.db", "there is no directory"),
        (".", "Is a directory"),
        ("notes.txt", "not a database; name another file"),
        ("newer.db", "has version 99"),
    ]:
        with pytest.raises(StoreError, match=said) as caught:
            open_store(sessions(f"sqlite:{tmp_path / name}"))
        assert not isinstance(caught.value, StoreUnavailable)


async def test_a_file_that_another_program_writes_just_now_is_no_mistake(tmp_path, monkeypatch):
    monkeypatch.setattr("shadowcat_core.sessions.sqlite_schema.STORE_BUSY_MS", 1)
    address = f"sqlite:{tmp_path}/s.db"
    await open_store(sessions(address)).aclose()
    with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        await open_store(sessions(address)).aclose()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://me:hush/hush@127.0.0.1/0", "in a password, / is written %2F"),
        ("redis://127.0.0.1:hush/0", "no number for a port"),
        ("redis://127.0.0.1:99999/0", "no number for a port"),
        ("redis://me:hush@127.0.0.1/production", "the number of a database, such as /0"),
        ("redis://127.0.0.1/0?scoket_timeout=1", "'scoket_timeout'"),
        ("redis://127.0.0.1/0?socket_timeout=soon", "'socket_timeout'"),
        ("redis://127.0.0.1/0?decode_responses=yes", "without decode_responses"),
        ("unix:///tmp/redis.sock?db=first", "'db'"),
    ],
)
def test_a_url_that_redis_py_would_misunderstand_is_refused_and_its_password_not_repeated(url, said):
    with pytest.raises(StoreError, match=said) as caught:
        open_store(sessions(url))
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None or "hush" not in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "url", ["redis://h", "redis://h/", "rediss://u:p%2Fw@h:6380/3?ssl_check_hostname=no", "unix:///r.sock"]
)
async def test_a_url_that_is_right_is_not_connected_to_before_it_is_used(url):
    await open_store(sessions(url)).aclose()


def test_a_missing_package_is_named_with_its_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(StoreError, match=r"pip install 'shadowcat\[redis\]'"):
        open_store(sessions(NOBODY_LISTENS))


# --- The key ----------------------------------------------------------------------------------------------------------

SHARED = "sqlite:s.db"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "conf" / "key"


def test_sessions_in_memory_have_a_key_that_is_nowhere_else(file):
    keys = {session_key(sessions("memory", key_file=str(file)), file) for _ in range(3)}
    assert [len(key) for key in keys] == [KEY_BYTES] * 3
    assert not file.parent.exists()


def test_a_key_is_made_once_for_its_owner_alone_and_then_read(file):
    key = session_key(sessions(SHARED), file)
    assert len(key) == KEY_BYTES
    assert file.read_text() == key.hex() + "\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert session_key(sessions(SHARED), file) == key
    assert session_key(sessions(NOBODY_LISTENS, key_file=str(file)), file.with_name("unused")) == key
    assert [path.name for path in file.parent.iterdir()] == ["key"]
    assert CredentialBinder(key).matches(CredentialBinder(key).bind("Bearer t"), "Bearer t")


def test_the_files_own_key_comes_before_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    key = session_key(sessions(SHARED, key_file="~/own"), tmp_path / "default")
    assert bytes.fromhex((tmp_path / "own").read_text()) == key
    assert not (tmp_path / "default").exists()


def test_proxies_that_start_at_once_have_one_key(file):
    barrier = threading.Barrier(8)

    def start(path: Path) -> bytes:
        barrier.wait()
        return session_key(sessions(SHARED), path)

    for number in range(20):
        with ThreadPoolExecutor(8) as pool:
            starts = [pool.submit(start, file.with_name(f"key-{number}")) for _ in range(8)]
            keys = [each.result() for each in starts]
        assert len(set(keys)) == 1
    assert len(list(file.parent.iterdir())) == 20


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "too short: it needs 64 hexadecimal digits"),
        (b"ab" * 31, "too short"),
        (b"ab" * 31 + b"a", "no key"),
        (b"correct horse battery staple, for ever", "no key"),
        (b"\xff" * 64, "no key"),
        (b"a" * 1_000_000, "no key"),
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(tmp_path, text, said):
    path = tmp_path / "key"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(StoreError, match=said) as caught:
        session_key(sessions(SHARED), path)
    assert "openssl rand -hex 32" in str(caught.value)
    assert "horse" not in str(caught.value)
    assert path.read_bytes() == text


@pytest.mark.parametrize(
    ("mode", "is_private"),
    [
        (0o600, True),
        (0o400, True),
        (0o440, True),
        (0o640, True),
        (0o660, False),
        (0o604, False),
        (0o644, False),
        (0o602, False),
    ],
)
def test_a_key_is_for_its_owner_and_may_be_read_by_its_group(tmp_path, mode, is_private):
    path = tmp_path / "key"
    path.write_text("0A" * KEY_BYTES + "\r\n")
    path.chmod(mode)
    if is_private:
        assert session_key(sessions(SHARED), path) == b"\n" * KEY_BYTES
        return
    with pytest.raises(StoreError, match=f"open to others; run: chmod 600 {path}"):
        session_key(sessions(SHARED), path)


def test_a_place_where_no_key_can_be_is_told(tmp_path):
    (tmp_path / "a-file").write_text("")
    (tmp_path / "loose").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, said in [
        ("a-file/key", "Not a directory"),
        (".", "no file"),
        ("loose", "No such file"),
        ("pipe", "no file"),
        ("n" * 300, "name too long"),
    ]:
        with pytest.raises(StoreError, match=said):
            session_key(sessions(SHARED), tmp_path / name)


def test_a_file_system_without_links_leaves_nothing_behind(file, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(StoreError, match="Operation not permitted"):
        session_key(sessions(SHARED), file)
    assert list(file.parent.iterdir()) == []
