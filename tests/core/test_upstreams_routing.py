"""A request takes the most specific route there is, and its path becomes the one that its server has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.upstreams import Endpoint
from shadowcat_core.upstreams.routing import Router
from tests.core.upstream_parts import fleet, route

ROUTES = [
    (None, "/", "all"),
    (None, "/mcp", "mcp"),
    (None, "/mcp/deep/er", "deeper"),
    ("mcp.example.com", "/mcp", "exact"),
    ("*.example.com", "/mcp", "below"),
    ("*.deep.example.com", "/", "far below"),
    ("[::1]", "/mcp/", "v6"),
]


@pytest.mark.parametrize(
    ("host", "path", "found"),
    [
        ("other", "/mcp", "mcp"),
        ("other", "/mcp/", "mcp"),
        ("other", "/mcp?q=/mcp/deep/er", "mcp"),
        ("other", "/mcp/x/y/z", "mcp"),
        ("other", "/mcpx", "all"),
        ("other", "/", "all"),
        ("other", "/?x", "all"),
        ("other", "//mcp", "all"),
        ("other", "/mcp/deep", "mcp"),
        ("other", "/mcp/deep/er", "deeper"),
        ("other", "/mcp/deep/er/and/deeper", "deeper"),
        ("other", "/mcp/deep/ers", "mcp"),
        ("other", "*", None),
        (None, "/mcp", "mcp"),
        ("mcp.example.com", "/mcp", "exact"),
        ("MCP.Example.COM:8443", "/mcp", "exact"),
        ("mcp.example.com.", "/mcp", "exact"),
        ("mcp.example.com", "/elsewhere", "all"),
        ("a.example.com", "/mcp", "below"),
        ("a.b.example.com", "/mcp", "below"),
        ("example.com", "/mcp", "mcp"),
        ("badexample.com", "/mcp", "mcp"),
        ("a.deep.example.com", "/mcp", "far below"),
        ("deep.example.com", "/mcp", "below"),
        ("[::1]:8080", "/mcp", "v6"),
        ("[::1]", "/mcp/x", "v6"),
        ("[::1", "/mcp", "mcp"),
        ("", "/mcp", "mcp"),
        (":::", "/mcp", "mcp"),
    ],
)
def test_the_most_specific_host_wins_and_then_the_longest_prefix(host, path, found):
    assert Router(ROUTES).match(host, path) == found


def test_without_routes_for_all_hosts_others_have_none():
    router = Router([("a", "/mcp", "a")])
    assert router.match("b", "/mcp") is None
    assert router.match(None, "/mcp") is None
    assert Router([]).match("a", "/") is None


SEGMENTS = st.lists(st.sampled_from(["a", "b", "cc"]), max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(st.dictionaries(SEGMENTS, st.none(), max_size=8), SEGMENTS)
def test_a_route_is_the_longest_of_those_whose_segments_begin_the_path(prefixes, path):
    def segments(text: str) -> list[str]:
        return [part for part in text.split("/") if part]

    fitting = [prefix for prefix in prefixes if segments(path)[: len(segments(prefix))] == segments(prefix)]
    wanted = max(fitting, key=len, default=None)
    assert Router((None, prefix, prefix) for prefix in prefixes).match("h", path) == wanted


def test_a_path_of_many_slashes_costs_no_more_than_the_deepest_prefix():
    router = Router(ROUTES)
    assert len(router._prefixes("/" * 1_000_000)) == 4


@pytest.mark.parametrize(
    ("url", "prefix", "asked", "target"),
    [
        ("http://h", "/mcp", "/mcp?a=1", "/mcp?a=1"),
        ("http://h/", "/", "/x/y", "/x/y"),
        ("http://h/up", "/mcp", "/mcp", "/up"),
        ("http://h/up", "/mcp", "/mcp?a=/mcp", "/up?a=/mcp"),
        ("http://h/up", "/mcp", "/mcp/", "/up/"),
        ("http://h/up", "/mcp/", "/mcp/x?y", "/up/x?y"),
        ("http://h/up/", "/mcp", "/mcp", "/up/"),
        ("http://h/up/", "/mcp", "/mcp/x", "/up/x"),
        ("http://h/up", "/", "/", "/up"),
        ("http://h/up", "/", "/?a", "/up?a"),
        ("http://h/up", "/", "/x", "/up/x"),
    ],
)
def test_the_servers_path_takes_the_place_of_the_prefix(url, prefix, asked, target):
    assert Endpoint.parse(url).target(prefix, asked) == target


@pytest.mark.parametrize(
    ("url", "endpoint", "authority"),
    [
        ("http://H.example/mcp", Endpoint("http", "h.example", 80, "/mcp"), "h.example"),
        ("https://h", Endpoint("https", "h", 443), "h"),
        ("https://h:80/", Endpoint("https", "h", 80), "h:80"),
        ("http://[::1]:3001/mcp", Endpoint("http", "::1", 3001, "/mcp"), "[::1]:3001"),
        ("http://127.0.0.1:3001", Endpoint("http", "127.0.0.1", 3001), "127.0.0.1:3001"),
    ],
)
def test_a_url_is_taken_apart(url, endpoint, authority):
    assert Endpoint.parse(url) == endpoint
    assert endpoint.authority == authority


def test_a_fleet_finds_the_pool_of_a_request():
    found = fleet(route("a", name="one"), route("b", name="two", path="/two", host="h"))
    assert [pool.route.name for pool in found.pools()] == ["one", "two"]
    one, two = found.pools()
    assert found.route("h:80", "/mcp?x") is one
    assert found.route("H", "/two/x") is two
    assert found.route("x", "/two") is None
