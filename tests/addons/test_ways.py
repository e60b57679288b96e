"""What becomes of a flow when leading it fails. How flows are led is tested in tests/e2e."""

import pytest
from mitmproxy.test import tflow

from shadowcat_addons.ways import Ways
from shadowcat_core.exchange import ExchangeRegistry


class FailingRelay:
    """Has a route for everything, and a mistake in it."""

    def routes(self, _host, _path):
        return object()

    def open(self, _pool, _asked):
        raise RuntimeError("a mistake")


async def test_a_request_that_cannot_be_led_for_a_mistake_of_ours_goes_nowhere():
    registry = ExchangeRegistry(clock_ns=lambda: 0)
    ways = Ways(
        FailingRelay(),
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
