"""Puts a relay together from what a file says: store, key, sessions, streams."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.limits import GATHERING_MS
from shadowcat_core.relay.opening import open_store, session_key
from shadowcat_core.relay.relay import Relay
from shadowcat_core.sessions import ClockMs, CredentialBinder, SessionMapping, StoreReport, Upstream, wall_clock_ms
from shadowcat_core.sessions.lifecycle import Ask
from shadowcat_core.sessions.manager import Revived, SessionManager
from shadowcat_core.upstreams import Fleet, StoreKind, UpstreamsFile


def relay_of(
    file: UpstreamsFile,
    fleet: Fleet,
    *,
    key_file: Path,
    ask: Ask,
    clock_s: Callable[[], float] = time.monotonic,
    clock_ms: ClockMs = wall_clock_ms,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    catch_up: Callable[[], object] = lambda: None,
    on_report: Callable[[StoreReport], None] = lambda _report: None,
    on_unlogged: Callable[[StoreUnavailable], object] = lambda _exc: None,
    on_moved: Callable[[SessionMapping, Revived], object] = lambda _before, _revived: None,
    on_unended: Callable[[Upstream, str], object] = lambda _upstream, _reason: None,
) -> Relay:
    """Make the relay of a file. `key_file` has the key of credentials where the file names none.

    Raises:
        StoreError: the store, or the key, cannot be had.
    """
    sessions = file.sessions
    binder = CredentialBinder(session_key(sessions, key_file))
    store = open_store(sessions, on_report=on_report, clock_ms=clock_ms)
    manager = SessionManager(
        store,
        binder,
        ask,
        clock_ms=clock_ms,
        idle_ttl_ms=round(sessions.idle_s * 1000),
        lifetime_ms=round(sessions.lifetime_s * 1000),
        on_unended=on_unended,
    )
    return Relay(
        fleet,
        manager,
        store,
        gather_s=0 if sessions.address.kind is StoreKind.MEMORY else int(GATHERING_MS) / 1000,
        clock_s=clock_s,
        sleep=sleep,
        catch_up=catch_up,
        on_store=on_unlogged,
        on_moved=on_moved,
    )
