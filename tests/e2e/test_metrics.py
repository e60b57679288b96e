"""Metrics of a real mitmdump: what was called is counted, a server that dies is seen, and a taken port is said."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from tests.core.metrics_parts import Samples, samples_of, value
from tests.e2e.origin import WITHIN_S
from tests.e2e.processes import NotReadyError, free_port
from tests.e2e.proxies import Proxies, Proxy
from tests.e2e.raw_client import connect
from tests.e2e.relay_lanes import Lane, Lanes, calling
from tests.e2e.relay_servers import numbered, say

IMPATIENT = {"retry": {"patience_s": 0}}
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


async def scraped(port: int) -> Samples:
    """What is told now."""
    url = f"http://127.0.0.1:{port}/metrics"
    async with httpx.AsyncClient(trust_env=False, timeout=WITHIN_S) as client:
        plain, openmetrics = await client.get(url), await client.get(url, headers=OPENMETRICS)
    told = samples_of(plain.text)
    assert samples_of(openmetrics.text, parse_openmetrics).keys() == told.keys()
    return told


@pytest.fixture(scope="module")
def port() -> int:
    """Where the module's proxy serves its metrics."""
    return free_port()


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("metrics")
    with Proxies(folder) as proxies:
        yield Lanes(folder, {"plain": (IMPATIENT, 6)}).run(
            proxies, shadowcat_metrics=str(port), shadowcat_tape=str(folder / "tapes"), shadowcat_tools_deny="never"
        )


async def until(port: int, holds: Callable[[Samples], bool]) -> Samples:
    """Ask until what is told is as expected."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            told = await scraped(port)
            if holds(told):
                return told


def grown(before: Samples, after: Samples, name: str, **labels: str) -> float:
    return value(after, name, **labels) - value(before, name, **labels)


def of(lane: Lane, which: str) -> dict[str, str]:
    """The labels of a lane's server."""
    return {"route": lane.name, "upstream": f"{lane.name}-{which}"}


async def test_calls_are_counted_where_they_went(lanes: Lanes, port: int):
    async with lanes.lane() as lane:
        before = await scraped(port)
        await lane.a.start()
        client = await (await lane.client()).begin()
        for number in range(1, 4):
            await client.call(message_id=number)
            await say(await lane.a.exchange())
            assert (await client.answer())["id"] == number
        after = await until(port, lambda told: value(told, "exchanges_running") == value(before, "exchanges_running"))
    assert grown(before, after, "exchanges_total") == 5  # initialize, initialized, and the calls
    assert grown(before, after, "relay_requests_total") == 5
    assert grown(before, after, "relay_sessions_begun_total") == 1
    assert grown(before, after, "upstream_successes_total", **of(lane, "a")) == 5
    assert grown(before, after, "upstream_picks_total", **of(lane, "b")) == 0
    assert grown(before, after, "interceptor_messages_total", interceptor="guard-tools-refuse") >= 3
    assert value(after, "upstream_in_flight", **of(lane, "a")) == 0


async def test_a_stream_is_counted_exactly_while_it_runs_and_when_it_has_ended(lanes: Lanes, port: int):
    events = [numbered(number) for number in range(1, 8)]
    async with lanes.lane() as lane:
        _, exchange, stream = await calling(lane)
        before = await scraped(port)
        for event in events:
            await exchange.send(event)
        await stream.messages(len(events))
        during = await until(port, lambda told: grown(before, told, "stream_messages_total") >= len(events))
        await exchange.end()
        await stream.rest()
        after = await until(port, lambda told: grown(during, told, "streams_running") == -1)
    assert value(during, "upstream_in_flight", **of(lane, "a")) == 1
    assert value(during, "relay_streams_kept") >= 1
    for told in (during, after):
        assert grown(before, told, "stream_messages_total") == len(events)
        assert grown(before, told, "stream_bytes_total") == sum(map(len, events))
        assert 1 <= grown(before, told, "stream_chunks_total") <= len(events)
        assert grown(before, told, "stream_lag_seconds_count") == grown(before, told, "stream_batches_total")
    assert value(after, "stream_behind_bytes") == 0


async def test_a_server_that_dies_is_ejected_and_what_it_took_along_is_counted(lanes: Lanes, port: int):
    async with lanes.lane() as lane:
        before = await scraped(port)
        _, _, stream = await calling(lane)
        assert value(await scraped(port), "upstream_up", **of(lane, "a")) == 1
        await lane.a.die()
        (lost,) = [message for message in await stream.rest() if "error" in message]
        assert lost["error"]["data"]["mayHaveRun"] is True
        other = await lane.client()
        while value(told := await scraped(port), "upstream_up", **of(lane, "a")):
            await (await other.initialize()).rest()
    assert value(told, "upstream_state", **of(lane, "a"), state="down") == 1
    assert value(told, "upstream_state", **of(lane, "a"), state="healthy") == 0
    assert grown(before, told, "upstream_trips_total", **of(lane, "a")) == 1
    assert grown(before, told, "upstream_failures_total", **of(lane, "a")) >= 1
    assert grown(before, told, "relay_answers_lost_total") == 1


async def test_the_tape_and_what_is_recorded_on_it_are_told(lanes: Lanes, port: int):
    told = await until(port, lambda told: value(told, "tape_waiting_records") == 0)
    assert value(told, "tape_records_total") > 0
    assert value(told, "tape_lost_records_total") == 0
    (tape,) = (lanes.file.parent / "tapes").iterdir()
    assert value(told, "tape_bytes_total") <= tape.stat().st_size


async def test_no_label_comes_from_what_passes(lanes: Lanes, port: int):
    secrets = ["Bearer one", "secret-tool", "/private"]
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client(Authorization=secrets[0])).begin()
        await client.call(tool=secrets[1])
        await say(await lane.a.exchange())
        await client.answer()
        told = str(await scraped(port))
    assert client.session is not None
    assert not [secret for secret in (*secrets, client.session, *lane.a.begun) if secret in told]


def test_a_port_that_is_taken_is_said_before_the_proxy_starts(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken, Proxies(tmp_path) as proxies:
        address = "127.0.0.1:{1}".format(*taken.getsockname())
        with pytest.raises(NotReadyError) as ended:
            proxies.shadowcat("regular", shadowcat_metrics=address)
    said = str(ended.value)
    assert f"shadowcat_metrics: cannot listen on {address}: Address already in use" in said
    assert "Traceback" not in said


async def test_a_proxy_ends_while_somebody_is_connected_to_its_metrics(tmp_path: Path):
    port = free_port()
    with Proxies(tmp_path) as proxies:
        proxy: Proxy = proxies.shadowcat("regular", shadowcat_metrics=str(port))
        async with connect(port) as idle:
            await (await idle.request("GET", "/metrics", {"Host": "x"})).rest()
            _, half = await asyncio.open_connection("127.0.0.1", port)
            half.write(b"GET /metrics HTTP/1.1\r\n")
            await half.drain()
            proxy.process.stop()
            half.close()
    said = proxy.process.log
    assert "Traceback" not in said
    assert "was destroyed" not in said
    assert said.count("metrics at") == 1
    socket.create_server(("127.0.0.1", port)).close()
