"""mitmproxy's options are set to what MCP needs, where the user has not chosen otherwise."""

from collections.abc import Sequence

import pytest
from mitmproxy.hooks import ConfigureHook
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons

from shadowcat_addons.mcp_defaults import SILENT_STREAM_S, McpDefaults, is_loopback
from tests.addons.conftest import request_flow

REVERSE = "reverse:http://127.0.0.1:3001"


@pytest.fixture
def start():
    """Load the addon into a mitmproxy whose user has set some options, as `mitmdump -s` does."""
    with taddons.context() as context:
        # Proxyserver's options, which the test context does not load.
        context.options.add_option("connection_strategy", str, "eager", "", ("eager", "lazy"))
        context.options.add_option("keep_host_header", bool, False, "")
        context.options.add_option("web_columns", Sequence[str], [], "")
        context.options.add_option("shadowcat_upstreams", str, "", "")

        def start(**options):
            own = {name: options.pop(name) for name in list(options) if name.startswith("shadowcat")}
            context.options.update(**options)
            context.options.set(*(f"{name}={str(value).lower()}" for name, value in own.items()), defer=True)
            addon = McpDefaults()
            context.master.addons.add(addon)
            context.master.addons.invoke_addon_sync(addon, ConfigureHook(set(context.options.keys())))
            return addon, context

        yield start


def chosen(context):
    options = context.options
    return options.tcp_timeout, options.connection_strategy, options.keep_host_header


def test_a_forward_proxy_only_lets_silent_streams_live(start):
    _, context = start()
    assert chosen(context) == (SILENT_STREAM_S, "eager", False)


def test_a_reverse_proxy_also_keeps_the_host_and_connects_when_asked(start):
    _, context = start(mode=[REVERSE])
    assert chosen(context) == (SILENT_STREAM_S, "lazy", True)


FORWARD_COLUMNS = ["tls", "path", "icon", "comment", "method", "status", "size", "time"]
LED_COLUMNS = ["icon", "status", "method", "comment", "size", "time"]


@pytest.mark.parametrize(
    ("mode", "upstreams", "columns"),
    [
        pytest.param("regular", "", FORWARD_COLUMNS, id="forward"),
        pytest.param(REVERSE, "", LED_COLUMNS, id="reverse-gives-it-the-room"),
        pytest.param("regular", "shadowcat.yaml", LED_COLUMNS, id="upstreams-give-it-the-room"),
    ],
)
def test_mitmweb_shows_the_comment_column(start, mode, upstreams, columns):
    _, context = start(mode=[mode], shadowcat_upstreams=upstreams)
    assert context.options.web_columns == columns


def test_the_columns_follow_what_is_set_later(start):
    _, context = start()
    context.options.update(shadowcat_upstreams="shadowcat.yaml")
    assert context.options.web_columns == LED_COLUMNS
    context.options.update(shadowcat_upstreams="")
    assert context.options.web_columns == FORWARD_COLUMNS


def test_columns_that_the_user_chose_later_stay(start):
    _, context = start()
    context.options.update(web_columns=["path"])
    context.options.update(shadowcat_upstreams="shadowcat.yaml")
    assert context.options.web_columns == ["path"]


def test_a_mode_that_is_set_later_counts_too(start):
    _, context = start()
    context.options.update(mode=[REVERSE])
    assert chosen(context) == (SILENT_STREAM_S, "lazy", True)


def test_what_the_user_chose_stays(start):
    _, context = start(mode=[REVERSE], tcp_timeout=30)
    assert context.options.tcp_timeout == 30


def test_nothing_is_changed_when_the_user_says_so(start):
    _, context = start(mode=[REVERSE], shadowcat_mcp_defaults=False)
    assert chosen(context) == (600, "eager", False)


@pytest.mark.parametrize(
    ("url", "mode", "host"),
    [
        pytest.param("http://127.0.0.1:3001/mcp", REVERSE, "evil.example", id="loopback-keeps-it"),
        pytest.param("http://localhost:3001/mcp", REVERSE, "evil.example", id="localhost-keeps-it"),
        pytest.param(
            "https://mcp.example/mcp", "reverse:https://mcp.example", "mcp.example", id="remote-needs-its-own"
        ),
        pytest.param(
            "http://mcp.example:81/mcp", "reverse:http://mcp.example:81", "mcp.example:81", id="with-its-port"
        ),
        pytest.param("https://mcp.example/mcp", "regular", "evil.example", id="forward-proxies-do-not-touch-it"),
    ],
)
def test_the_host_stays_as_the_client_sent_it_only_for_an_upstream_on_this_machine(start, url, mode, host):
    addon, _ = start(mode=[REVERSE])
    flow = request_flow(url=url)
    flow.client_conn.proxy_mode = ProxyMode.parse(mode)
    flow.request.host_header = "evil.example"
    addon.requestheaders(flow)
    assert flow.request.host_header == host


def test_mitmproxys_own_rewriting_is_left_alone_when_the_user_wants_it(start):
    addon, _ = start(mode=[REVERSE], shadowcat_mcp_defaults=False)
    flow = request_flow(url="https://mcp.example/mcp")
    flow.client_conn.proxy_mode = ProxyMode.parse("reverse:https://mcp.example")
    flow.request.host_header = "as-it-came"
    addon.requestheaders(flow)
    assert flow.request.host_header == "as-it-came"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("a.localhost", True),
     ("10.0.0.1", False), ("mcp.example", False), ("", False)],
)  # fmt: skip
def test_loopback_is_recognised(host, expected):
    assert is_loopback(host) is expected


def test_what_was_set_is_undone_so_that_a_script_loaded_again_can_set_it(start):
    addon, context = start(mode=[REVERSE])
    addon.done()
    assert chosen(context) == (600, "eager", False)
    again = McpDefaults()
    context.master.addons.remove(addon)
    context.master.addons.add(again)
    context.master.addons.invoke_addon_sync(again, ConfigureHook(set(context.options.keys())))
    assert chosen(context) == (SILENT_STREAM_S, "lazy", True)
    flow = request_flow(url="https://mcp.example/mcp")
    flow.client_conn.proxy_mode = ProxyMode.parse("reverse:https://mcp.example")
    flow.request.host_header = "localhost:8080"
    again.requestheaders(flow)
    assert flow.request.host_header == "mcp.example"


def test_switching_the_defaults_off_undoes_them_but_not_what_the_user_set_since(start):
    _, context = start(mode=[REVERSE])
    context.options.update(tcp_timeout=7)
    context.options.update(shadowcat_mcp_defaults=False)
    assert chosen(context) == (7, "eager", False)
