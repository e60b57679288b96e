"""What becomes of a flow when leading it fails. How flows are led is tested in tests/e2e."""

from types import SimpleNamespace

import pytest
from mitmproxy.test import tflow

from shadowcat_addons.ways import Ways
from shadowcat_core.exchange import ExchangeRegistry
from shadowcat_core.relay import Asked


class FailingPassage:
    """The way of a request, with a mistake in it."""

    asked = Asked("POST", "proxy", "/mcp", ())
    is_closed = False

    async def begin(self):
        raise RuntimeError("a mistake")

    def close(self):
        self.is_closed = True


class FailingRelay:
    """Has a route for everything."""

    def __init__(self) -> None:
        self.passage = FailingPassage()

    def routes(self, _host, _path):
        return SimpleNamespace(route=SimpleNamespace(name="route"))

    def open(self, _pool, _asked):
        return self.passage


async def test_a_request_that_cannot_be_led_for_a_mistake_of_ours_goes_nowhere():
    registry, relay = ExchangeRegistry(clock_ns=lambda: 0), FailingRelay()
    ways = Ways(
        relay,
        registry,
        find=lambda _flow_id: None,
        stream_again=lambda _flow: None,
        on_note=lambda _exchange, _text: None,
    )
    flow = tflow.tflow()
    with pytest.raises(RuntimeError):
        await ways.asking(None, flow)
    assert flow.response.status_code == 500
    assert flow.response.json()["error"]["code"] == -32603
    assert ways.passage(flow) is None
    assert relay.passage.is_closed
