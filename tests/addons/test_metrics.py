"""The option `shadowcat_metrics`: off by default, refused where nobody can listen, changed while the proxy runs."""

import logging
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from mitmproxy import exceptions
from mitmproxy.test import taddons

from shadowcat_addons.suite import Shadowcat
from tests.addons.conftest import CALL, request_flow, response_of
from tests.core.metrics_parts import samples_of, value

ROOT = Path(__file__).parents[2]
EVENT = b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n'


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO)

    def urls():
        return re.findall(r"metrics at (http://\S+)", caplog.text)

    return urls


async def get(url):
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(url)
    assert response.status_code == 200
    return samples_of(response.text)


async def is_silent(url):
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(url)
    return True


def set_metrics(proxy, text):
    proxy.context.options.update(shadowcat_metrics=text)


async def test_what_passes_is_told(proxy, said):
    set_metrics(proxy, "0")
    flow = await proxy.ask(request_flow(CALL))
    stream = await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
    stream(EVENT)
    (url,) = said()
    during = await get(url)
    await proxy.end(flow)
    after = await get(url)
    assert value(during, "streams_running") == 1
    assert value(after, "streams_running") == 0
    for samples in (during, after):
        assert value(samples, "exchanges_total") == 1
        assert value(samples, "stream_bytes_total") == len(EVENT)


async def test_it_is_off_until_it_is_set_and_after(proxy, said):
    assert said() == []
    set_metrics(proxy, "127.0.0.1:0")
    (url,) = said()
    await get(url)
    set_metrics(proxy, "")
    assert await is_silent(url)


async def test_another_address_takes_the_place_of_the_first(proxy, said):
    set_metrics(proxy, "0")
    set_metrics(proxy, "localhost:0")
    first, second = said()
    assert await is_silent(first)
    assert value(await get(second), "exchanges_total") == 0


async def test_the_same_port_can_be_opened_to_others(proxy, said):
    set_metrics(proxy, "0")
    (url,) = said()
    set_metrics(proxy, url.removeprefix("http://127.0.0.1").removesuffix("/metrics"))
    assert said() == [url, url]
    await get(url)


@pytest.mark.parametrize("text", ["here", "127.0.0.1", "127.0.0.1:70000", "0/metrics", "a..b:1", "192.0.2.1:1"])
async def test_what_cannot_be_is_refused_and_what_was_stays(proxy, said, text):
    set_metrics(proxy, "0")
    with pytest.raises(exceptions.OptionsError, match=r"^shadowcat_metrics: .*\w"):
        set_metrics(proxy, text)
    url = said()[-1]
    assert proxy.context.options.shadowcat_metrics == "0"
    await get(url)


async def test_a_port_that_somebody_has_is_named(proxy, said):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:{1}".format(*taken.getsockname())
        with pytest.raises(exceptions.OptionsError) as refused:
            set_metrics(proxy, address)
    assert str(refused.value) == f"shadowcat_metrics: cannot listen on {address}: Address already in use"
    assert said() == []


async def test_at_start_up_it_is_one_line_said_once(caplog):
    suite = Shadowcat()
    with socket.create_server(("127.0.0.1", 0)) as taken, taddons.context(suite) as context:
        context.options.update(shadowcat_metrics=str(taken.getsockname()[1]))
        context.options.update(shadowcat_live_ms=100)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "Address already in use" in record.getMessage()
    suite.done()


async def test_the_port_is_free_when_the_suite_is_done_and_stays_so(proxy, said):
    set_metrics(proxy, "0")
    (url,) = said()
    proxy.suite.done()
    # What other rooms set back makes mitmproxy configure everybody once more.
    proxy.context.options.update(shadowcat_live_ms=100)
    assert said() == [url]
    assert await is_silent(url)


def test_without_the_option_nothing_of_it_is_imported():
    code = """
import asyncio, sys
from mitmproxy.test import taddons
from shadowcat_addons.suite import Shadowcat

async def main():
    suite = Shadowcat()
    with taddons.context(suite):
        suite.running()
        suite.done()

asyncio.run(main())
print([name for name in sys.modules if name.startswith(("prometheus_client", "shadowcat_core.metrics", "tornado"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"
