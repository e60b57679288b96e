"""Hostile messages in mitmproxy's own rooms: what the content views make of them can be printed."""

from collections.abc import Callable

import pytest

from tests.e2e import hostile_bodies, hostile_streams
from tests.e2e.hostile import Case, ask, body_of, play, stream_of
from tests.e2e.origin import Origin
from tests.e2e.proxies import Proxies
from tests.e2e.test_hostile_exchanges import CRASH

# Text that not every terminal, file or socket takes.
NAMES = [name for name in hostile_streams.CONTENT if "surrogate" in name or "control characters" in name]
MESSAGES = {name: hostile_streams.CONTENT[name] for name in NAMES}
MESSAGES["odd requests"] = hostile_bodies.REQUESTS["an array of odd requests"]


def cases() -> list[Case]:
    made: list[Case] = []
    for name, message in MESSAGES.items():
        made.append(Case(f"body: {name}", body_of(message), ask(message), asked=message))
        made.append(Case(f"event: {name}", stream_of(hostile_streams.event(message), cut=60_000), ask()))
    return made


@pytest.fixture
def said(proxies: Proxies, origin: Origin) -> Callable[[], str]:
    """What a proxy that prints every body has said since the test began."""
    process = proxies.shadowcat(f"reverse:{origin.url}", flow_detail="3").process
    before = len(process.log)
    return lambda: process.log[before:]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
async def test_what_the_views_show_can_be_printed(
    origin: Origin, proxies: Proxies, said: Callable[[], str], case: Case
):
    proxy = proxies.shadowcat(f"reverse:{origin.url}", flow_detail="3")
    await play(case, origin, proxy.port)
    assert proxy.process.alive
    assert not CRASH.search(said())
