"""Opens what a configuration says about sessions: their store, and the key that binds them to who began them."""

import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from stat import S_IMODE, S_ISREG
from typing import Any, Final
from urllib.parse import urlsplit

from shadowcat_core.errors import StoreError
from shadowcat_core.sessions import (
    ClockMs,
    MemoryStore,
    RedisStore,
    ResilientStore,
    SqliteStore,
    Store,
    StoreReport,
    wall_clock_ms,
)
from shadowcat_core.sessions.sqlite_schema import connect
from shadowcat_core.upstreams import SessionsConfig, StoreKind

KEY_BYTES: Final = 32
_MAX_KEY_FILE_BYTES: Final = 4096
_NOT_FOR_OTHERS: Final = 0o027
"""The group may read it: a secret that is mounted into a container belongs to root, and to the program's group."""
_MAKE_ONE: Final = "make one by hand: (umask 077; openssl rand -hex 32 > FILE)"


def open_store(
    sessions: SessionsConfig,
    *,
    on_report: Callable[[StoreReport], None] = lambda _report: None,
    clock_ms: ClockMs = wall_clock_ms,
) -> Store:
    """Open the store of a configuration; with `on_outage: open`, one that goes on while it is away.

    A file is tried at once: one that can never be used is a mistake to tell at the start, and no outage. Whether a
    Redis answers is found out by its first use.

    Raises:
        StoreError: it cannot be opened, or what it needs is not installed.
    """
    address = sessions.address
    store: Store
    match address.kind:
        case StoreKind.MEMORY:
            return MemoryStore(clock_ms=clock_ms)
        case StoreKind.SQLITE:
            path = expanded(address.location)
            _try_file(path)
            store = SqliteStore(path, clock_ms=clock_ms)
        case StoreKind.REDIS:
            _check_url(address.location)
            store = RedisStore.from_url(address.location, clock_ms=clock_ms)
            _try_options(address.location)
    if sessions.on_outage == "closed":
        return store
    return ResilientStore(store, on_report=on_report, clock_ms=clock_ms)


def session_key(sessions: SessionsConfig, default: Path) -> bytes:
    """Read the key of `CredentialBinder`, and make it when there is none: proxies that share sessions share its file.

    Sessions in memory have a key that nobody else knows. `default` is the file where the configuration names none.

    Raises:
        StoreError: the file cannot be read or made, is no key, or is open to others.
    """
    if sessions.address.kind is StoreKind.MEMORY:
        return secrets.token_bytes(KEY_BYTES)
    path = default if sessions.key_file is None else expanded(sessions.key_file)
    try:
        with suppress(FileExistsError):
            _make_key(path)
        text = _read_private(path)
    except OSError as exc:
        raise StoreError(f"the key of sessions, {path}, cannot be used: {exc.strerror or exc}") from exc
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:  # nothing of the file is repeated: it may be another secret
        raise StoreError(
            f"the key of sessions, {path}, is no key: it has {2 * KEY_BYTES} hexadecimal digits and nothing else; "
            f"{_MAKE_ONE}"
        ) from None
    if len(key) < KEY_BYTES:
        raise StoreError(
            f"the key of sessions, {path}, is too short: it needs {2 * KEY_BYTES} hexadecimal digits; {_MAKE_ONE}"
        )
    return key


def expanded(text: str) -> Path:
    """Read a path that may begin with `~`.

    Raises:
        StoreError: there is no such home.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as exc:
        raise StoreError(f"{text}: {exc}") from exc


def _try_file(path: Path) -> None:
    """Open a database once, and make it when there is none.

    Raises:
        StoreError: it cannot be opened, whoever waits.
    """
    if not path.parent.is_dir():
        raise StoreError(f"the store of sessions, {path}, cannot be made: there is no directory {path.parent}; make it")
    try:
        connect(path).close()
    except OSError as exc:
        raise StoreError(f"the store of sessions, {path}, cannot be opened: {exc.strerror or exc}") from exc
    except sqlite3.Error as exc:
        if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:  # another program's, and only for now
            return
        raise StoreError(f"the store of sessions, {path}, cannot be opened: {exc}; name another file") from exc


def _check_url(url: str) -> None:
    """Find what redis-py would take for something else. Nothing of the URL is repeated: it may hold a password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return
    try:
        _ = parts.port
    except ValueError:
        raise StoreError(
            "the store's URL has no number for a port; in a password, / is written %2F, @ %40, : %3A, # %23 and ? %3F"
        ) from None
    database = parts.path.removeprefix("/")
    if database and not (database.isascii() and database.isdigit()):
        raise StoreError("the path of a redis:// URL is the number of a database, such as /0")


def _try_options(url: str) -> None:
    """Make a connection as redis-py will, and do not open it: only so does it look at the URL's options.

    Raises:
        StoreError: it has no such option.
    """
    from redis.asyncio import ConnectionPool

    pool: Any = ConnectionPool.from_url(url)  # partly without types
    try:
        pool.make_connection()
    except TypeError as exc:
        option = str(exc).rpartition("argument ")[2]
        raise StoreError(f"the store's URL has an option that redis-py does not know: {option}") from None


def _read_private(path: Path) -> bytes:
    """Read a file that is for its owner, and perhaps its group.

    Raises:
        OSError: it cannot be read.
        StoreError: it is none, or others may read or change it.
    """
    # Not to wait for the writer of a pipe that stands there by mistake.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        about = os.fstat(descriptor)
        if not S_ISREG(about.st_mode):
            raise StoreError(f"the key of sessions, {path}, is no file")
        if os.name == "posix" and S_IMODE(about.st_mode) & _NOT_FOR_OTHERS:
            raise StoreError(f"the key of sessions, {path}, is open to others; run: chmod 600 {path}")
        if about.st_size > _MAX_KEY_FILE_BYTES:
            raise StoreError(f"the key of sessions, {path}, is no key: a file of {about.st_size:,} bytes; {_MAKE_ONE}")
        return os.read(descriptor, _MAX_KEY_FILE_BYTES)
    finally:
        os.close(descriptor)


def _make_key(path: Path) -> None:
    """Make a key file, whole or not at all: of two proxies that start at once, one makes it and both read it.

    Raises:
        FileExistsError: there is one.
        OSError: it cannot be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        raise FileExistsError(path)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())  # else a crash of the machine could leave the name of an empty file
        path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
