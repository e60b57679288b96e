"""Exchanges are on the tape as they were on the wire: bodies, chunks, how they ended, and no secrets."""

import stat

import pytest
from mitmproxy import exceptions

from shadowcat_core.interceptors import Block
from shadowcat_core.tape.reader import Tape
from tests.addons.conftest import CALL, request_flow, response_of

RESULT = {"jsonrpc": "2.0", "id": 7, "result": {}}
EVENT = b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n'


@pytest.fixture
def recording(proxy, tmp_path):
    """Turn recording on; calling it turns it off and gives the exchanges on the tape."""
    proxy.context.configure(proxy.suite.tape, shadowcat_tape=str(tmp_path / "tapes"))

    def stop():
        proxy.context.configure(proxy.suite.tape, shadowcat_tape="")
        (path,) = (tmp_path / "tapes").iterdir()
        return list(Tape.open(path).exchanges())

    return stop


async def test_a_call_and_its_answer_are_on_the_tape(proxy, recording):
    flow = await proxy.ask(request_flow())
    response = response_of(RESULT)
    await proxy.answer(flow, response)
    (exchange,) = recording()
    assert exchange.opened.method == "POST"
    assert exchange.opened.url == "http://127.0.0.1:3001/mcp"
    assert exchange.opened.flow == flow.id
    assert exchange.opened.era == "legacy"
    assert exchange.opened.protocol_version == "2025-11-25"
    assert exchange.request_body == flow.request.content
    assert exchange.response.status == 200
    assert exchange.response_body == response.content
    assert exchange.end.how == "eof"
    assert [message.kind for message in exchange.messages()] == ["request", "response"]


async def test_a_stream_is_on_the_tape_chunk_by_chunk(proxy, recording):
    flow = await proxy.ask(request_flow())
    stream = await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
    for i in range(0, len(EVENT), 10):
        stream(EVENT[i : i + 10])
    await proxy.end(flow)
    (exchange,) = recording()
    assert [chunk.data for chunk in exchange.chunks] == [EVENT[i : i + 10] for i in range(0, len(EVENT), 10)]
    assert {chunk.direction for chunk in exchange.chunks} == {"s2c"}


async def test_an_event_stream_of_somebody_else_is_on_the_tape_too(proxy, recording):
    flow = await proxy.ask(request_flow({"model": "m"}, headers={"content-type": "application/json"}))
    stream = await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
    stream(b"event: ping\ndata: {}\n\n")
    await proxy.end(flow)
    (exchange,) = recording()
    assert exchange.request_body == b'{"model": "m"}'
    assert exchange.response_body == b"event: ping\ndata: {}\n\n"


async def test_other_traffic_is_not_on_the_tape(proxy, recording):
    flow = await proxy.ask(request_flow(b"a=1", headers={"content-type": "text/plain"}))
    await proxy.answer(flow, response_of(b"ok", content_type="text/plain"))
    await proxy.fail(await proxy.ask(request_flow(b"", headers={})), "Server disconnected.")
    assert recording() == []


@pytest.mark.parametrize(
    ("error", "how"),
    [
        ("Client disconnected.", "client_closed"),
        ("Connection killed.", "killed"),
        ("server closed connection", "reset"),
        ("HTTP/1 protocol error: peer closed connection without sending complete message body", "reset"),
        ("stream reset by server (INTERNAL_ERROR)", "reset"),
        ("[Errno 111] Connect call failed ('127.0.0.1', 3001)", "error"),
    ],
)
async def test_how_an_exchange_broke_off_is_said(proxy, recording, error, how):
    flow = await proxy.ask(request_flow())
    await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
    await proxy.fail(flow, error)
    (exchange,) = recording()
    assert (exchange.end.how, exchange.end.text) == (how, error)


async def test_an_answer_of_our_own_is_on_the_tape_as_such(proxy, recording):
    flow = await proxy.ask(request_flow())
    flow.response = proxy.suite.upstream_errors.answer(flow, "connection refused")
    await proxy.fail(flow, "connection refused")
    (exchange,) = recording()
    (verdict,) = exchange.verdicts
    assert (verdict.interceptor, verdict.action, verdict.reason) == ("shadowcat", "answer", "connection refused")
    assert verdict.direction == "s2c"
    assert exchange.response.status == 200
    assert exchange.response_body == verdict.result == flow.response.content


@pytest.mark.parametrize(
    ("error", "said"), [("Connection killed.", "✗ killed"), ("Client disconnected.", "client left")]
)
async def test_what_nobody_got_is_neither_on_the_tape_nor_in_the_comment(proxy, recording, error, said):
    flow = await proxy.ask(request_flow())
    flow.response = proxy.suite.upstream_errors.answer(flow, error)
    await proxy.fail(flow, error)
    (exchange,) = recording()
    assert (exchange.verdicts, exchange.response, exchange.chunks) == ([], None, [])
    assert flow.comment.startswith(f"tools/call echo → {said} · ")


async def test_of_what_interceptors_did_to_a_killed_flow_only_the_original_is_on_the_tape(proxy, recording):
    class Killer:
        def intercept(self, _message):
            flow.kill()
            return Block("no")

    proxy.suite.interception.pipeline.add(Killer(), name="killer")
    flow = request_flow()
    await proxy.ask(flow)
    await proxy.fail(flow, flow.error.msg)
    (exchange,) = recording()
    (verdict,) = exchange.verdicts
    assert (verdict.interceptor, verdict.action, verdict.original) == ("killer", "block", flow.request.content)
    assert (verdict.result, verdict.reply) == (None, None)
    assert (exchange.response, exchange.chunks, exchange.end.how) == (None, [], "killed")
    assert "→ ✗ killed · " in flow.comment


async def test_a_fault_is_noted_once_for_an_exchange(proxy, recording):
    proxy.suite.faults.add("duplicate:name=twice")
    flow = await proxy.ask(request_flow())
    await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
    for _ in range(3):
        list(proxy.suite.registry.get(flow.id).outlet.send(EVENT))
    await proxy.end(flow)
    (exchange,) = recording()
    (note,) = exchange.notes
    assert (note.text, note.data) == ("fault twice: an event comes twice", {"by": "fault:twice"})


async def test_secrets_in_heads_are_not_on_the_tape(proxy, tmp_path):
    proxy.context.configure(proxy.suite.tape, shadowcat_tape=str(tmp_path), shadowcat_redact_headers=["X-Our-Tenant"])
    flow = request_flow(url="http://127.0.0.1:3001/mcp?api_key=hunter2")
    flow.request.headers.update({"authorization": "Bearer hunter2", "x-our-tenant": "hunter2", "x-plain": "visible"})
    await proxy.ask(flow)
    await proxy.answer(flow, response_of(RESULT, headers={"set-cookie": "a=hunter2"}))
    proxy.context.configure(proxy.suite.tape, shadowcat_tape="")
    (path,) = tmp_path.iterdir()
    assert "hunter2" not in path.read_text()
    assert "visible" in path.read_text()
    assert "s-1" not in path.read_text().replace("is-1", "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_standard_mode_writes_before_the_bytes_pass(proxy, tmp_path):
    proxy.context.configure(proxy.suite.tape, shadowcat_tape=str(tmp_path), shadowcat_tape_mode="standard")
    flow = await proxy.ask(request_flow(CALL))
    stream = await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
    assert not stream.passes_first()
    assert stream(EVENT) == [EVENT]
    (path,) = tmp_path.iterdir()
    (exchange,) = Tape.open(path).exchanges()
    assert exchange.response_body == EVENT


async def test_the_tape_says_where_it_is(proxy, tmp_path):
    assert "not recording" in proxy.suite.tape.tape()
    proxy.context.configure(proxy.suite.tape, shadowcat_tape=str(tmp_path))
    assert str(tmp_path) in proxy.suite.tape.tape()
    assert " 0 left out" in proxy.suite.tape.tape()


async def test_setting_an_option_to_what_it_is_makes_no_second_tape(proxy, tmp_path):
    for _ in range(2):
        proxy.context.configure(proxy.suite.tape, shadowcat_tape=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 1


async def test_a_setting_changed_while_recording_begins_another_tape(proxy, tmp_path):
    proxy.context.configure(proxy.suite.tape, shadowcat_tape=str(tmp_path))
    proxy.context.configure(proxy.suite.tape, shadowcat_tape_flush_ms=50)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("option", ["buffer_records", "flush_ms", "queue_mb"])
async def test_values_that_make_no_sense_are_refused(proxy, option):
    with pytest.raises(exceptions.OptionsError, match=f"shadowcat_tape_{option} must be at least 1"):
        proxy.context.configure(proxy.suite.tape, **{f"shadowcat_tape_{option}": 0})


async def test_a_mode_that_is_none_is_refused(proxy):
    with pytest.raises(exceptions.OptionsError, match="shadowcat_tape_mode must be one of zero-latency, standard"):
        proxy.context.configure(proxy.suite.tape, shadowcat_tape_mode="sloppy")


async def test_a_directory_that_cannot_be_made_is_said(proxy, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(exceptions.OptionsError, match="shadowcat_tape: cannot record in"):
        proxy.context.configure(proxy.suite.tape, shadowcat_tape=str(tmp_path / "file" / "tapes"))
