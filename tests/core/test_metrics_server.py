"""Metrics over HTTP: one page, in the format that is asked for, and a port that is free again at once."""

import asyncio
import errno
import os
import re
import socket

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.registry import Collector

from shadowcat_core.listen_address import ListenAddress
from shadowcat_core.metrics import MetricsServer
from tests.core.metrics_parts import World, samples_of, scrape

ANY_PORT = ListenAddress("127.0.0.1", 0)
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path)
    yield world
    await world.aclose()


@pytest.fixture
async def server(world):
    server = MetricsServer(ANY_PORT, world.metrics)
    yield server
    await server.close()


@pytest.fixture
async def client():
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


async def test_the_page_has_what_is_told_now(server, client, world):
    for _ in range(2):
        world.held += 1
        response = await client.get(server.url)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert samples_of(response.text) == scrape(world.metrics)


async def test_who_asks_for_the_head_alone_gets_it(server, client):
    response = await client.head(server.url)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_who_asks_for_openmetrics_gets_it(server, client, world):
    response = await client.get(server.url, headers={"Accept": OPENMETRICS})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert response.text.endswith("# EOF\n")
    assert samples_of(response.text, parse_openmetrics) == scrape(world.metrics)


@pytest.mark.parametrize("accept", ["", ";;;,=", "text/plain;version=x", "application/openmetrics-text", "\u00e9"])
async def test_whatever_is_accepted_there_is_an_answer_and_the_next_one_too(server, client, accept):
    await client.get(server.url, headers={"Accept": accept.encode("latin-1")})
    assert (await client.get(server.url)).status_code == 200


async def test_who_only_has_the_address_is_led_to_the_page(server, client):
    assert (await client.get(server.address.origin, follow_redirects=True)).url == server.url


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/other", 404), ("POST", "/metrics", 405), ("DELETE", "/metrics", 405)]
)
async def test_there_is_nothing_else(server, client, method, path, status):
    assert (await client.request(method, server.address.origin + path)).status_code == status


async def test_two_on_one_port_are_refused_and_the_first_goes_on(server, client, world):
    with pytest.raises(OSError, match=r"\w") as refused:
        MetricsServer(server.address, world.metrics)
    assert refused.value.errno == errno.EADDRINUSE
    assert (await client.get(server.url)).status_code == 200


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("a..b", "no name of a host"),
        ("ü" * 70, "no name of a host"),
        ("no such host", r"\D+"),
        ("192.0.2.1", os.strerror(errno.EADDRNOTAVAIL)),
        ("2001:db8::1", os.strerror(errno.EADDRNOTAVAIL)),
    ],
)
async def test_an_address_that_is_not_ours_is_refused_in_a_few_words(world, host, why):
    with pytest.raises(OSError, match=r"\w") as refused:
        MetricsServer(ListenAddress(host, 0), world.metrics)
    assert re.fullmatch(why, refused.value.strerror)


async def test_a_port_is_free_as_soon_as_the_server_is_closed(client, world):
    first = MetricsServer(ANY_PORT, world.metrics)
    await client.get(first.url)  # and its connection stays open
    closing = first.close()
    second = MetricsServer(first.address, world.metrics)
    await closing
    assert (await client.get(second.url)).status_code == 200
    await second.close()


async def test_connections_end_with_the_server(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.address.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await reader.readuntil(b"\n") == b"HTTP/1.1 200 OK\r\n"
    await server.close()
    await asyncio.wait_for(reader.read(), 10)
    writer.close()


class Broken(Collector):
    """Cannot tell."""

    def collect(self):
        raise ZeroDivisionError


async def test_who_asks_is_told_when_nothing_can_be_told(client, caplog):
    collector = Broken()
    collector.describe = list
    server = MetricsServer(ANY_PORT, collector)
    for _ in range(2):
        assert (await client.get(server.url)).status_code == 500
    assert "ZeroDivisionError" in caplog.text
    await server.close()


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
async def test_it_listens_on_ipv6_too(client, world):
    server = MetricsServer(ListenAddress("::1", 0), world.metrics)
    assert (await client.get(server.url)).status_code == 200
    await server.close()
