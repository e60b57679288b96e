"""What a request is answered that no route of the upstreams file is about. In a real proxy: tests/e2e."""

from mitmproxy.test import tflow

from shadowcat_addons.unrouted import Unrouted
from shadowcat_core.exchange import ExchangeRegistry
from tests.core.upstream_parts import fleet, route

ERROR = (
    "Connection killed: Request destination unknown. Unable to figure out where this request should be forwarded to."
)
FLEET = fleet(route("a"), route("b", path="/search", host="search.example"))


def unrouted(fleet=FLEET):
    return Unrouted(ExchangeRegistry(clock_ns=lambda: 0), lambda: fleet)


def asked(path: str, host: str = "127.0.0.1:8080"):
    flow = tflow.tflow()
    flow.request.path, flow.request.host_header = path, host
    return flow


def test_a_client_reads_which_paths_there_are():
    response = unrouted().answer(asked("/wrong?key=1"), ERROR)
    assert (response.status_code, response.headers["content-type"]) == (404, "application/json")
    assert response.json() == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {
            "code": -32600,
            "message": "No route of the upstreams file is about /wrong at 127.0.0.1:8080; there are /mcp, "
            "/search at search.example",
        },
    }


def test_another_error_is_no_matter_of_routes():
    assert unrouted().answer(asked("/wrong"), "connection refused") is None


def test_without_a_file_there_are_no_routes():
    assert unrouted(fleet=None).answer(asked("/wrong"), ERROR) is None


def test_a_path_is_said_once_and_not_endlessly_many_are(caplog):
    room = unrouted()
    for path in ("/wrong", "/wrong", "/wrong?query"):
        room.answer(asked(path), ERROR)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "shadowcat: no route of the upstreams file is about /wrong at 127.0.0.1:8080;"
    )
    for number in range(200):
        room.answer(asked(f"/{number}"), ERROR)
    assert len(caplog.records) == 100


def test_of_many_routes_the_first_are_named():
    many = fleet(*(route(f"u{number}", path=f"/{number}") for number in range(12)))
    message = unrouted(many).answer(asked("/wrong"), ERROR).json()["error"]["message"]
    assert message.endswith("there are /0, /1, /2, /3, /4, /5, /6, /7, /8, /9 and 2 more")


def test_what_a_client_writes_into_its_path_does_not_speak_to_the_terminal(caplog):
    unrouted().answer(asked("/\x1b[31m" + "x" * 10_000), ERROR)
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 1_000
