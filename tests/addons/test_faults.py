"""The room of faults: options and commands, and what toxics do to mitmproxy's flows."""

import json

import pytest
from mitmproxy import exceptions
from mitmproxy.flow import Error
from mitmproxy.test import taddons

from shadowcat_addons.faults import Faults
from shadowcat_core.exchange import ExchangeRegistry
from shadowcat_core.interceptors import Pipeline
from shadowcat_core.mcp import HeaderFields, Recogniser
from shadowcat_core.mcp.recognition import recognise_event
from shadowcat_core.outlet import Cut, Send
from shadowcat_core.sse import SseParser
from tests.addons.conftest import CALL, MCP_HEADERS, request_flow, response_of
from tests.core.interception import scheduler

EVENT = b'id: 1\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}\n\n'
RESULT = b'id: 2\ndata: {"jsonrpc":"2.0","id":7,"result":{}}\n\n'
STREAM = "text/event-stream"


class Room:
    """The room as an addon of its own, and exchanges that it follows as the suite lets it."""

    def __init__(self, context, faults, pipeline, notes):
        self.context = context
        self.faults = faults
        self.pipeline = pipeline
        self.notes = notes
        self.registry = ExchangeRegistry(lambda: 0)
        self.recogniser = Recogniser()

    def set(self, *specs, seed=0):
        self.context.options.update(shadowcat_faults=list(specs), shadowcat_faults_seed=seed)

    def load(self, loader):
        self.faults.load(loader)

    def configure(self, updated):
        self.faults.configure(updated)

    def call(self, name, *arguments):
        return self.context.master.commands.call(f"shadowcat.{name}", *arguments)

    def open(self, payload=CALL, **of):
        flow = request_flow(payload, **of)
        request = flow.request
        head = HeaderFields(request.headers.fields)
        recognition = self.recogniser.request(request.method, lambda: request.url, head, request.raw_content)
        exchange = self.registry.open(flow.id, recognition, request.raw_content)
        self.faults.opened(exchange, flow)
        return exchange, flow

    def ask(self, payload=CALL, **of):
        exchange, flow = self.open(payload, **of)
        self.faults.asking(exchange, flow)
        return exchange, flow

    def answer(self, response, payload=CALL, **of):
        exchange, flow = self.ask(payload, **of)
        flow.response = response
        self.faults.answering(exchange, flow)
        return exchange, flow


@pytest.fixture
def room():
    notes = []
    pipeline = Pipeline(scheduler())
    faults = Faults(pipeline, lambda exchange, *note: notes.append((exchange.number, *note)))
    with taddons.context() as context:
        made = Room(context, faults, pipeline, notes)
        context.master.addons.add(made)
        yield made
        faults.done()


def names(room):
    return [line.partition(":")[0] for line in room.call("faults").splitlines()]


def sent(outlet, *chunks):
    return b"".join(step.data for chunk in chunks for step in outlet.send(chunk) if isinstance(step, Send))


def test_there_is_nothing_on_anybodys_path_until_somebody_wants_it(room):
    exchange, flow = room.answer(response_of(b"", content_type=STREAM))
    assert (exchange.outlet, room.pipeline.stages) == (None, ())
    assert "accept-encoding" not in flow.request.headers
    assert room.call("faults") == "no toxics (add one with shadowcat.faults.add)"


def test_the_option_sets_toxics_and_another_value_sets_others(room):
    room.set("latency:ms=5", "drop", "rate_limit")
    assert names(room) == ["latency", "drop", "rate_limit"]
    assert [stage.settings.name for stage in room.pipeline.stages] == ["fault:latency", "fault:drop"]
    room.set("drop:times=1")
    assert room.call("faults") == "drop: drop:name=drop,times=1; 0 matched, 0 taken"
    room.set()
    assert room.pipeline.stages == ()


@pytest.mark.parametrize(
    ("specs", "says"),
    [
        (["latancy"], "did you mean latency"),
        (["drop", "latency:ms=-1"], "ms"),
        (["drop:name=a", "latency:name=a"], "'a' already"),
    ],
)
def test_an_option_that_makes_no_sense_changes_nothing_and_says_why(room, specs, says):
    room.set("cut:after=1")
    with pytest.raises(exceptions.OptionsError, match=f"shadowcat_faults: .*{says}"):
        room.set(*specs)
    assert names(room) == ["cut"]


def test_commands_add_and_remove_beside_the_option(room):
    room.set("drop")
    assert room.call("faults.add", "latency:ms=7,name=slow") == "slow"
    assert room.call("faults.add", "drop") == "drop-2"
    room.set("cut:after=1")
    assert names(room) == ["slow", "drop-2", "cut"]
    room.call("faults.remove", "slow")
    assert names(room) == ["drop-2", "cut"]
    room.call("faults.clear")
    assert room.call("faults").startswith("no toxics")


@pytest.mark.parametrize(
    ("command", "argument", "says"),
    [
        ("faults.add", "dorp", "did you mean drop"),
        ("faults.remove", "drop", "'drop'"),
        ("faults.add", "drop:x=1", "'x'"),
    ],
)
def test_a_command_that_makes_no_sense_says_why(room, command, argument, says):
    with pytest.raises(exceptions.CommandError, match=says):
        room.call(command, argument)


def test_what_was_removed_by_hand_is_not_removed_again(room):
    room.set("drop", "cut:after=1")
    room.call("faults.remove", "drop")
    room.call("faults.add", "latency:name=drop")
    room.set()
    assert names(room) == ["drop"]
    assert "latency" in room.call("faults")


def test_the_same_settings_again_change_nothing(room):
    room.set("drop:from=2")
    before = room.pipeline.stages
    room.faults.configure({"mode"})
    assert room.pipeline.stages == before
    room.set("drop:from=2", seed=3)
    assert room.pipeline.stages != before


def test_an_answer_in_the_servers_place_is_a_whole_response(room):
    room.set("rate_limit:retry_after_s=3,times=1")
    exchange, flow = room.ask()
    assert (flow.response.status_code, flow.response.headers["retry-after"]) == (429, "3")
    assert flow.response.headers["content-type"] == "application/json"
    assert json.loads(flow.response.content)["id"] == 7
    assert exchange.answered_by_us
    assert room.notes == [(exchange.number, "fault:rate_limit", "fault rate_limit: 429: to be tried again after 3 s")]
    assert room.ask()[1].response is None


def test_an_answer_of_our_own_is_not_harmed_further(room):
    room.set("unauthorized", "bandwidth", "cut:after_bytes=1")
    exchange, flow = room.ask()
    room.faults.answering(exchange, flow)
    assert exchange.outlet is None


def test_an_ended_session_stays_so_for_every_method(room):
    room.set("session_404:method=tools/call")
    statuses = []
    for payload, method in ((None, "GET"), (CALL, "POST"), (None, "GET"), (None, "DELETE")):
        response = room.ask(payload, method=method)[1].response
        statuses.append(response and response.status_code)
    assert statuses == [None, 404, 404, 404]


@pytest.mark.parametrize(("toxic", "values"), [("mcp_name", ["not-echo"]), ("mcp_name:how=missing", [])])
def test_the_header_that_names_the_tool_is_another_or_none(room, toxic, values):
    room.set(toxic)
    headers = {**MCP_HEADERS, "mcp-protocol-version": "2026-07-28", "Mcp-Name": "echo"}
    assert room.ask(headers=headers)[1].request.headers.get_all("mcp-name") == values


def test_the_servers_stream_is_asked_for_without_a_coding_where_toxics_wait_for_it(room):
    room.set("duplicate")
    assert room.ask()[1].request.headers["accept-encoding"] == "identity"


def test_a_stream_gets_an_outlet_that_breaks_it(room):
    room.set("duplicate:method=tools/call")
    response = response_of(b"", content_type=STREAM, headers={"content-length": "100"})
    exchange, flow = room.answer(response)
    assert sent(exchange.outlet, EVENT, RESULT) == EVENT + RESULT * 2
    assert "content-length" not in flow.response.headers
    assert room.notes == [(exchange.number, "fault:duplicate", "fault duplicate: an event comes twice")]


def test_the_comment_of_an_exchange_says_which_toxic_broke_it(room):
    room.set("duplicate:name=twice")
    exchange, flow = room.answer(response_of(b"", content_type=STREAM))
    sent(exchange.outlet, EVENT, EVENT, RESULT)
    assert exchange.deeds == {"broken by fault:twice": 3}
    room.faults.ended(exchange, flow)
    sent(exchange.outlet, RESULT)
    assert exchange.deeds == {"broken by fault:twice": 3}
    assert room.notes == [(exchange.number, "fault:twice", "fault twice: an event comes twice")]


def test_a_json_body_gets_an_outlet_for_what_concerns_bytes_only(room):
    room.set("duplicate")
    assert room.answer(response_of({}))[0].outlet is None
    room.set("cut:after_bytes=4")
    exchange, flow = room.answer(response_of({"a": 1}))
    assert next(iter(exchange.outlet.send(b"123456"))) == Send(b"1234")
    assert flow.response.headers["content-length"] == "8"


def test_a_coded_stream_has_no_events_to_break(room):
    room.set("duplicate", "bandwidth:bytes_per_s=1000000")
    coded = response_of(b"", content_type=STREAM, headers={"content-encoding": "br"})
    exchange, _ = room.answer(coded)
    assert sent(exchange.outlet, EVENT) == EVENT


def test_the_servers_own_stream_is_dropped_at_its_head(room):
    room.set("drop_get")
    exchange, flow = room.answer(response_of(b"", content_type=STREAM), None, method="GET")
    assert flow.error.msg == Error.KILLED_MESSAGE
    assert room.notes == [(exchange.number, "fault:drop_get", "fault drop_get: the stream breaks off at its head")]


def test_a_toxic_that_is_added_reaches_the_streams_that_run(room):
    streams, whole, waiting = (
        room.answer(response_of(b"", content_type=STREAM)),
        room.answer(response_of({})),
        room.ask(),
    )
    streams[0].tap = type("Tap", (), {"outlet": None})()
    over = room.answer(response_of(b"", content_type=STREAM))
    over[0].tap = type("Tap", (), {"outlet": None})()
    room.faults.ended(*over)
    room.call("faults.add", "cut:after=1")
    assert sent(streams[0].outlet, EVENT + RESULT) == EVENT
    assert [exchange.outlet for exchange, _ in (whole, waiting, over)] == [None, None, None]
    before = streams[0].outlet
    room.call("faults.add", "duplicate")
    assert streams[0].outlet is before


def test_a_stream_that_turns_out_to_be_mcp_is_broken_from_its_second_event_on(room):
    room.set("duplicate")
    headers = {"accept": STREAM}
    exchange, _ = room.answer(response_of(b"", content_type=STREAM), None, method="GET", headers=headers)
    maybe = exchange.outlet
    assert sent(maybe, b": hello\n\n") == b": hello\n\n"
    endpoint = b"event: endpoint\ndata: /messages?session_id=1\n\n"
    exchange.settle(recognise_event(SseParser().feed(endpoint)[0]))
    assert sent(maybe, endpoint) == endpoint
    assert sent(exchange.outlet, EVENT) == EVENT * 2
    assert list(maybe.end()) == []


def test_somebody_elses_stream_is_left_alone(room):
    room.set("duplicate", "bandwidth")
    other = room.answer(response_of(b"", content_type=STREAM), {"model": "x"}, headers={}, url="http://llm.example/v1")
    assert other[0].outlet is None


def test_a_cut_that_was_chosen_for_a_stream_is_carried_out_behind_its_event(room):
    room.set("cut:after=1,probability=0.5", seed=1)
    ends = []
    for number in range(20):
        exchange, flow = room.answer(response_of(b"", content_type=STREAM), {**CALL, "id": number})
        steps = [] if exchange.outlet is None else list(exchange.outlet.send(EVENT))
        ends.append(any(isinstance(step, Cut) for step in steps))
        room.faults.ended(exchange, flow)
    assert 4 < sum(ends) < 16
