"""What a person sees in mitmweb while a stream is open, looked at in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e import wire
from tests.e2e.browser import Browser, chromium
from tests.e2e.origin import WITHIN_S, Origin
from tests.e2e.proxies import Proxies, Proxy
from tests.e2e.raw_client import connect

pytestmark = [pytest.mark.partner, pytest.mark.usefixtures("chromium")]

WORDS = ("anaconda", "buffalo", "cormorant", "dromedary", "echidna")
EVENTS = [
    wire.sse(
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": f"the {word} event"}}
    )
    for word in WORDS
]


@pytest.fixture
def proxy(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Proxy]:
    # Its own for each test: the page shows all flows there were.
    with Proxies(tmp_path_factory.mktemp("mitmweb")) as proxies:
        yield proxies.web(f"reverse:{origin.url}")


async def only_flow(proxy: Proxy) -> str:
    """The id of the one flow mitmweb knows."""
    assert proxy.web_url
    base, _, query = proxy.web_url.partition("?")
    async with httpx.AsyncClient(timeout=WITHIN_S, trust_env=False) as client:
        flows = (await client.get(f"{base}flows?{query}")).json()
    assert len(flows) == 1
    return str(flows[0]["id"])


async def watch_response(browser: Browser, proxy: Proxy) -> None:
    """Open the response tab of the one flow."""
    flow = await only_flow(proxy)
    await browser.go(f"{proxy.web_url}#/flows/{flow}/response")


async def test_an_events_text_is_on_mitmwebs_page_before_the_next_event_is_sent(
    origin: Origin, proxy: Proxy, tmp_path: Path
):
    async with connect(proxy.port) as client, chromium(tmp_path) as browser:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        await exchange.send(EVENTS[0])
        await watch_response(browser, proxy)
        await browser.see(WORDS[0])
        for word, event in list(zip(WORDS, EVENTS, strict=True))[1:]:
            await exchange.send(event)
            page = await browser.see(word)
        assert all(word in page for word in WORDS)
        assert "notifications/message" in page
        await exchange.end()
        assert await response.rest() == b"".join(EVENTS)


async def test_mitmwebs_list_says_what_an_exchange_is_and_counts_its_messages_live(
    origin: Origin, proxy: Proxy, tmp_path: Path
):
    async with connect(proxy.port) as client, chromium(tmp_path) as browser:
        await browser.go(f"{proxy.web_url}")
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        for count, event in enumerate(EVENTS[:3], start=1):
            await exchange.send(event)
            assert await response.receive(len(event)) == event
            await browser.see("tools/call echo", f"{count} message")


async def test_a_held_request_is_found_in_the_list_by_the_search_that_the_manual_names(
    proxies: Proxies, origin: Origin, tmp_path: Path
):
    proxy = proxies.web(f"reverse:{origin.url}", shadowcat_hold="kind:request", shadowcat_hold_timeout_s="600")
    headers = {"Authorization": "Bearer a-token-for-this-test", "Cookie": "_mitmproxy_xsrf=x", "X-XSRFToken": "x"}
    assert proxy.web_url
    base, _, _ = proxy.web_url.partition("?")
    async with connect(proxy.port) as client, connect(proxy.port) as other, chromium(tmp_path) as browser:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        await browser.go(f"{proxy.web_url}#/flows")
        await browser.see("⏸ held: tools/call echo (hold 1)")
        async with httpx.AsyncClient(timeout=WITHIN_S, trust_env=False, headers=headers) as person:
            await person.post(f"{base}commands/shadowcat.release", json={"arguments": ["1"]})
        await (await origin.exchange()).answer(b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}')
        await (await client.response()).rest()
        await other.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        await browser.see("tools/call echo → ok", "⏸ held: tools/call echo (hold 2)")
        await browser.go("about:blank")  # the page reads the search from its address when it is opened
        await browser.go(f"{proxy.web_url}#/flows?s=~comment%20held:")
        page = await browser.see("⏸ held: tools/call echo (hold 2)")
        assert "→ ok" not in page
