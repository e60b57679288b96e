"""The console: one line a message, in order, soon after it passed; nothing a peer sends steers the terminal."""

import asyncio
import io
import logging
import re
import sys
from datetime import UTC, datetime

import pytest

from shadowcat_addons.console import CONNECTIONS, Console
from shadowcat_core.interceptors import Block, Modify
from tests.addons.conftest import CALL, request_flow, response_of

AT = datetime(2026, 11, 21, 7, 32, 5, 123_456, tzinfo=UTC)
EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1,"total":4}}\n\n'
RESULT = b'data: {"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"hi"}]}}\n\n'


class Output(io.StringIO):
    """Where lines are printed: a terminal or not, and each write can be waited for."""

    encoding = "utf-8"

    def __init__(self, *, terminal=False, gone=False):
        super().__init__()
        self.terminal = terminal
        self.gone = gone
        self.writes = asyncio.Queue()

    def isatty(self):
        return self.terminal

    def write(self, text):
        if self.gone:
            raise BrokenPipeError
        self.writes.put_nowait(text)
        return super().write(text)

    @property
    def lines(self):
        """What was printed, without times and durations."""
        lines = [re.sub(r"^\d\d:\d\d:\d\d\.\d\d\d ", "", line) for line in self.getvalue().splitlines()]
        return [re.sub(r"( · |\[)\d+\.?\d* m?s\b", r"\1TIME", line) for line in lines]


def console_of(proxy):
    return proxy.suite.console


@pytest.fixture
def start(proxy, monkeypatch):
    """Turn the console on; what it prints goes to the output that is given back."""

    # mitmdump's and mitmweb's own, which the test context does not load.
    proxy.context.options.add_option("termlog_verbosity", str, "info", "", ("info", "debug"))

    def started(**how):
        output = Output(**how)
        monkeypatch.setattr(sys, "stdout", output)
        proxy.context.configure(console_of(proxy), shadowcat_print=True)
        return output

    return started


async def test_a_call_and_its_answer_are_a_line_each(proxy, start):
    output = start()
    flow = await proxy.ask(request_flow({**CALL, "params": {"name": "echo", "arguments": {"text": "hi"}}}))
    await proxy.answer(flow, response_of({"jsonrpc": "2.0", "id": 7, "result": {"tools": []}}))
    written = await output.writes.get()
    assert re.match(r'\d\d:\d\d:\d\d\.\d\d\d → tools/call #7 echo {"text":"hi"}\n', written)
    assert output.lines == ['→ tools/call #7 echo {"text":"hi"}', "← result #7 tools/call echo 0 tools [TIME]"]


async def test_messages_of_a_stream_are_printed_while_it_runs_whatever_the_interfaces_pace(proxy, start):
    proxy.context.configure(proxy.suite.live, shadowcat_live_ms=3_600_000)
    output = start()
    flow = await proxy.ask(request_flow())
    stream = await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
    await output.writes.get()
    stream(EVENT)
    await output.writes.get()
    assert output.lines == ["→ tools/call #7 echo", "← notifications/progress 1/4"]
    stream(RESULT)
    await output.writes.get()
    assert output.lines[2:] == ["← result #7 tools/call echo hi [TIME]"]
    await proxy.end(flow)


async def test_a_burst_is_one_write(proxy, start):
    output = start()
    flow = await proxy.ask(request_flow())
    stream = await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
    for _ in range(100):
        stream(EVENT)
    written = await output.writes.get()
    assert written.count("\n") == 101
    assert output.writes.empty()


async def test_lines_stand_in_the_order_in_which_messages_passed(proxy, start):
    output = start()
    first = await proxy.ask(request_flow())
    stream = await proxy.begin_response(first, response_of(content_type="text/event-stream"))
    stream(EVENT)
    # The stream is looked at only when lines are printed, but its event came before this request.
    await proxy.ask(request_flow({"jsonrpc": "2.0", "id": 8, "method": "ping"}))
    await output.writes.get()
    assert output.lines == ["→ tools/call #7 echo", "← notifications/progress 1/4", "→ ping #8"]


async def test_an_answer_on_another_stream_is_shown_with_what_it_answers(proxy, start):
    output = start()
    post = await proxy.ask(request_flow())
    await proxy.answer(post, response_of(None, status=202))
    get = await proxy.ask(request_flow(None, method="GET"))
    stream = await proxy.begin_response(get, response_of(content_type="text/event-stream"))
    stream(RESULT)
    await output.writes.get()
    assert output.lines == ["→ tools/call #7 echo", "← result #7 tools/call echo hi [TIME]"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(response_of(None, status=401), "· tools/call echo → ✗ HTTP 401 · TIME", id="refused"),
        pytest.param(
            response_of(b"<h1>no</h1>", status=404, content_type="text/html"),
            "· tools/call echo → ✗ HTTP 404 · TIME",
            id="page",
        ),
        pytest.param(response_of(None), "· tools/call echo → no answer · TIME", id="empty"),
        pytest.param(
            response_of({"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": "no"}}, status=400),
            "← error #7 tools/call echo 1 no [TIME]",
            id="error",
        ),
    ],
)
async def test_what_ended_without_an_answer_is_said(proxy, start, answer, said):
    output = start()
    await proxy.answer(await proxy.ask(request_flow()), answer)
    await output.writes.get()
    assert output.lines == ["→ tools/call #7 echo", said]


async def test_a_stream_that_breaks_off_is_said(proxy, start):
    output = start()
    flow = await proxy.ask(request_flow())
    stream = await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
    stream(EVENT)
    await proxy.fail(flow, "Server disconnected.")
    await output.writes.get()
    assert output.lines[1:] == ["← notifications/progress 1/4", "· tools/call echo → ✗ server hung up · TIME"]


async def test_an_upstream_that_is_down_is_seen_as_the_client_sees_it(proxy, start):
    output = start()
    flow = await proxy.ask(request_flow())
    flow.response = proxy.suite.upstream_errors.answer(flow, "refused")
    await proxy.fail(flow, "refused")
    await output.writes.get()
    assert output.lines[1].startswith("← error #7 tools/call echo -31002 MCP server 127.0.0.1:3001 gave no")


class Does:
    """An interceptor whose verdict on everything is the same."""

    def __init__(self, verdict):
        self.verdict = verdict

    def intercept(self, _message):
        return self.verdict


@pytest.mark.parametrize(
    ("verdict", "mode", "lines"),
    [
        pytest.param(
            Block("not now"), "enforce",
            ["! → tools/call #7 echo · blocked by mine: not now", "← error #7 tools/call echo -31010 not now [TIME]"],
            id="block",
        ),
        pytest.param(
            Block("no"), "audit", ["! → tools/call #7 echo · would have been blocked by mine: no"], id="audit"
        ),
        pytest.param(
            Modify({**CALL, "params": {"name": "safe"}}, "safer"), "enforce",
            ["! → tools/call #7 echo · changed by mine: safer · became safe"],
            id="modify",
        ),
    ],
)  # fmt: skip
async def test_what_interceptors_do_is_printed_behind_the_message(proxy, start, verdict, mode, lines):
    proxy.suite.interception.pipeline.add(Does(verdict), name="mine", mode=mode)
    output = start()
    flow = await proxy.ask(request_flow())
    if flow.response is not None:
        await proxy.answer(flow, flow.response)
    await output.writes.get()
    assert output.lines == ["→ tools/call #7 echo", *lines]


async def test_what_interceptors_do_to_an_answer_is_printed_with_what_it_answers(proxy, start):
    answer = {"jsonrpc": "2.0", "id": 7, "result": {"tools": [{}, {}]}}
    flow = await proxy.ask(request_flow())
    output = start()
    proxy.suite.interception.pipeline.add(Does(Modify({**answer, "result": {"tools": []}})), name="mine")
    await proxy.answer(flow, response_of(answer))
    await output.writes.get()
    assert output.lines == [
        "! ← result #7 tools/call echo 2 tools · changed by mine · became 0 tools",
        "← result #7 tools/call echo 0 tools [TIME]",
    ]


async def test_a_fault_that_was_made_is_printed(proxy, start):
    output = start()
    proxy.suite.faults.add("rate_limit")
    flow = await proxy.ask(request_flow())
    assert flow.response.status_code == 429
    await output.writes.get()
    assert output.lines[:2] == [
        "→ tools/call #7 echo",
        "! tools/call echo · fault rate_limit: 429: to be tried again after 1 s",
    ]


async def test_other_peoples_streams_and_the_endpoint_event_are_not_printed(proxy, start):
    output = start()
    llm = await proxy.ask(request_flow({"model": "m"}, headers={"content-type": "application/json"}))
    stream = await proxy.begin_response(llm, response_of(content_type="text/event-stream"))
    stream(b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n')
    get = await proxy.ask(request_flow(None, method="GET", headers={"accept": "text/event-stream"}))
    stream = await proxy.begin_response(get, response_of(content_type="text/event-stream"))
    stream(b"event: endpoint\ndata: /messages?session_id=a\n\n" + EVENT)
    await output.writes.get()
    assert output.lines == ["← notifications/progress 1/4"]


@pytest.mark.parametrize("evil", ["\x1b]0;owned\x07", "\u202e", "\r\x9b2K"])
async def test_control_characters_of_peers_do_not_reach_the_terminal(proxy, start, evil):
    output = start()
    asked = {"jsonrpc": "2.0", "id": evil, "method": "tools/call", "params": {"name": evil, "arguments": {"a": evil}}}
    flow = await proxy.ask(request_flow(asked))
    await proxy.answer(flow, response_of({"jsonrpc": "2.0", "id": evil, "error": {"code": 1, "message": evil}}))
    await output.writes.get()
    assert len(output.lines) == 2
    assert output.getvalue().replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
async def test_colours_are_for_terminals_of_those_who_want_them(
    proxy, start, monkeypatch, terminal, no_color, coloured
):
    monkeypatch.setenv("NO_COLOR", no_color)
    output = start(terminal=terminal)
    flow = await proxy.ask(request_flow())
    await proxy.answer(flow, response_of({"jsonrpc": "2.0", "id": 7, "result": {"isError": True}}))
    await output.writes.get()
    text = output.getvalue()
    assert ("\x1b" in text) is coloured
    assert ("\x1b[34m→ tools/call\x1b[0m" in text) is coloured
    assert ("\x1b[31m← tool error\x1b[0m" in text) is coloured
    plain = re.sub(r"\x1b\[\d+m", "", text).splitlines()
    assert [line.split(" ", 1)[1].partition(" [")[0] for line in plain] == [
        "→ tools/call #7 echo",
        "← tool error #7 tools/call echo",
    ]


async def test_an_output_that_knows_few_characters_gets_what_it_can_show(proxy, start):
    output = start()
    output.encoding = "ascii"
    await proxy.ask(request_flow())
    await output.writes.get()
    assert output.lines == ["? tools/call #7 echo"]


async def test_when_nobody_reads_any_more_the_traffic_goes_on(proxy, start):
    output = start(gone=True)
    flow = await proxy.ask(request_flow())
    stream = await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
    console_of(proxy).done()
    assert stream(EVENT) == [EVENT]
    await proxy.end(flow)
    assert console_of(proxy) not in proxy.suite.registry.watchers
    assert output.writes.empty()


async def test_switched_off_it_hears_of_nothing(proxy, start):
    output = start()
    console = console_of(proxy)
    proxy.context.configure(console, shadowcat_print=False)
    assert console_of(proxy) not in proxy.suite.registry.watchers
    proxy.suite.interception.pipeline.add(Does(Block("no")))
    await proxy.ask(request_flow())
    proxy.suite.interception.pipeline.remove("Does")
    proxy.suite.faults.add("rate_limit")
    await proxy.ask(request_flow())
    console.done()
    assert output.getvalue() == ""


def test_it_has_no_hooks_that_cost_a_request_anything():
    hooks = {"requestheaders", "request", "responseheaders", "response", "error", "client_disconnected"}
    assert not hooks & set(dir(Console))


async def test_switching_it_on_twice_prints_once(proxy, start):
    start()
    output = start()
    proxy.context.configure(console_of(proxy), termlog_verbosity="info")
    await proxy.ask(request_flow())
    await output.writes.get()
    assert output.lines == ["→ tools/call #7 echo"]


async def test_in_mitmproxys_full_screen_program_it_prints_nothing(proxy, start):
    proxy.context.options.add_option("console_layout", str, "single", "")
    start()
    assert console_of(proxy) not in proxy.suite.registry.watchers


@pytest.mark.parametrize(("verbosity", "level"), [("info", logging.WARNING), ("debug", logging.NOTSET)])
async def test_who_connected_is_not_said_between_messages_unless_the_user_asks_for_more(proxy, start, verbosity, level):
    start()
    proxy.context.configure(console_of(proxy), termlog_verbosity=verbosity)
    assert CONNECTIONS.level == level
    console_of(proxy).done()
    assert CONNECTIONS.level == logging.NOTSET


async def test_an_end_prints_what_is_left(proxy, start):
    output = start()
    await proxy.ask(request_flow())
    console_of(proxy).done()
    assert output.lines == ["→ tools/call #7 echo"]


async def test_times_of_day_are_those_at_which_messages_passed(proxy):
    output = Output()
    registry = proxy.suite.registry
    now_ns = 0
    registry.clock_ns = lambda: now_ns
    console = Console(registry, out=output, now=lambda: AT)
    registry.watchers.append(console)
    await proxy.ask(request_flow())
    now_ns = 1_000_000_000
    console.done()
    assert output.getvalue() == "07:32:04.123 → tools/call #7 echo\n"
