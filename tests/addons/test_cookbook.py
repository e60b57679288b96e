"""Each recipe of the cookbook, loaded as mitmproxy loads it, has its effect on a conversation and leaves the rest."""

import ast
import asyncio
import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
from mitmproxy.addons.script import Script
from mitmproxy.test import taddons

from shadowcat_addons.addon_hooks import AddonHooks
from shadowcat_core.interceptors import Pipeline
from shadowcat_core.messages import Message, MessageBatch
from shadowcat_core.sse import SseParser
from tests.core.interception import TO_CLIENT, TO_SERVER, in_virtual_time, judged, now_s, payloads, scheduler

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "interceptors"
RECIPES = {path.stem[3:]: path for path in sorted(FOLDER.glob("*.py"))}
MAX_LINES = 49

type Payload = dict[str, object]


class Conversation:
    """A client and a server with a recipe between them. Answers know their requests; times are the test's."""

    def __init__(self, recipe):
        self.recipe = recipe
        self.records, self.failures = [], []
        self.pipeline = Pipeline(scheduler(), on_verdict=self.records.append, on_failure=self.failures.append)
        self.room = AddonHooks(self.pipeline)
        self.asked: dict[object, Message] = {}
        self.to_client = replace(TO_CLIENT, request_of=lambda answer: self.asked.get(answer.id))

    def __enter__(self):
        self.context = taddons.context(self.room)
        self.context.__enter__()
        script = Script(str(RECIPES[self.recipe]), reload=True)
        script.reloadtask.cancel()  # it is loaded now, and stays as it is
        self.context.master.addons.add(script)
        script.loadscript()
        self.room.look()
        assert self.pipeline.stages, "nothing of the recipe is in the pipeline"
        return self

    def __exit__(self, *how):
        self.room.done()
        self.context.__exit__(*how)
        assert self.failures == []

    async def ask(self, request, at_ms=0):
        """What the server gets of a request, and what the client is answered at once."""
        batch = MessageBatch.of_body(json.dumps(request).encode(), TO_SERVER, at_ms * 1_000_000)
        (message,) = batch
        self.asked[request.get("id")] = message
        await judged(self.pipeline, batch)
        return payloads(batch), [json.loads(reply.raw) for reply in batch.replies]

    async def answer(self, *messages, at_ms=0):
        """What the client gets of events that came together."""
        chunk = b"".join(b"data: %s\n\n" % json.dumps(message).encode() for message in messages)
        batch = MessageBatch.of_frames(SseParser().feed(chunk), self.to_client, at_ms * 1_000_000)
        await judged(self.pipeline, batch)
        return payloads(batch)

    async def answer_in_a_body(self, message):
        batch = MessageBatch.of_body(json.dumps(message).encode(), self.to_client)
        await judged(self.pipeline, batch)
        return payloads(batch)


def call(tool, request_id=1, **arguments) -> Payload:
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}


def asks(method, request_id=1) -> Payload:
    return {"jsonrpc": "2.0", "id": request_id, "method": method}


def result(request_id=1, **members) -> Payload:
    return {"jsonrpc": "2.0", "id": request_id, "result": members}


def text(said, request_id=1) -> Payload:
    return result(request_id, content=[{"type": "text", "text": said}])


def progress(token, at) -> Payload:
    params = {"progressToken": token, "progress": at} if token is not None else {"progress": at}
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}


async def passes(conversation, request) -> bool:
    return await conversation.ask(request) == ([request], [])


async def block_deletes():
    with Conversation("block_deletes") as talk:
        for tool in ("delete_user", "drop_table", "remove_"):
            forwarded, [refusal] = await talk.ask(call(tool, 7))
            assert forwarded == []
            assert (refusal["id"], refusal["error"]["message"]) == (7, f"{tool} is not allowed here")
        for request in (call("undelete_"), call("echo"), asks("tools/list"), {**call("x"), "params": {}}):
            assert await passes(talk, request)


def questions():
    return list(Path("asked").glob("*.json"))


async def ask_a_human():
    with Conversation("ask_a_human") as talk:
        assert await passes(talk, call("echo"))
        assert questions() == []
        for suffix, forwarded, refusals in ((".yes", [call("deploy")], []), (".no", [], ["somebody has refused it"])):
            asking = asyncio.create_task(talk.ask(call("deploy")))
            await asyncio.sleep(1)
            assert not asking.done()
            (question,) = questions()
            assert json.loads(question.read_bytes()) == call("deploy")
            question.with_suffix(suffix).touch()
            got, replies = await asking
            assert (got, [reply["error"]["message"] for reply in replies]) == (forwarded, refusals)
            question.unlink()
        began_s = now_s()
        got, [reply] = await talk.ask(call("rollback"))
        assert (got, reply["error"]["message"], round(now_s() - began_s)) == ([], "nobody has allowed it", 60)


async def mock_a_tool():
    with Conversation("mock_a_tool") as talk:
        forwarded, [answer] = await talk.ask(call("deploy", "a"))
        assert forwarded == []
        assert answer["id"] == "a"
        assert answer["result"]["content"][0]["text"] == answer["result"]["structuredContent"]["result"]
        assert await passes(talk, call("echo"))


async def redact_emails():
    with Conversation("redact_emails") as talk:
        found = text("write to a.b+c@example.org, or to d@e.co", "me@example.org")
        found["result"]["structuredContent"] = {"users": [{"mail": "x@y.zz", "age": 3, "active": True, "next": None}]}
        (clean,) = await talk.answer(found)
        assert clean["id"] == "me@example.org"
        assert clean["result"]["content"][0]["text"] == "write to [e-mail], or to [e-mail]"
        (user,) = clean["result"]["structuredContent"]["users"]
        assert user == {"mail": "[e-mail]", "age": 3, "active": True, "next": None}
        untouched = [text("no address @ all"), progress("a@b.cc", 1)]
        assert await talk.answer(*untouched) == untouched
        assert len(talk.records) == 1


async def slow_tool():
    with Conversation("slow_tool") as talk:
        began_s = now_s()
        assert await passes(talk, call("add"))
        assert now_s() == began_s
        assert await passes(talk, call("echo"))
        assert now_s() - began_s == 2


async def tell_the_time():
    with Conversation("tell_the_time") as talk:
        await talk.ask(call("deploy", 1), at_ms=1_000)
        await talk.ask(asks("tools/list", 2), at_ms=1_000)
        events = [progress(1, 1), text("done", 1), result(2, tools=[]), text("of nobody", 9)]
        said, *rest = (await talk.answer(*events, at_ms=1_750))[1:]
        assert said["method"] == "notifications/message"
        assert said["params"]["data"] == "deploy took 750 ms"
        assert [progress(1, 1), *rest] == events
        assert await talk.answer_in_a_body(text("done", 1)) == [text("done", 1)]


async def calls_per_minute():
    with Conversation("calls_per_minute") as talk:
        for number in range(30):
            assert await talk.ask(call("echo"), at_ms=number * 100) == ([call("echo")], [])
        forwarded, [refusal] = await talk.ask(call("echo"), at_ms=10_000)
        assert forwarded == []
        assert refusal["error"]["data"] == {"retryAfterMs": 50_000}
        assert await talk.ask(asks("tools/list"), at_ms=10_000) == ([asks("tools/list")], [])
        assert await talk.ask(call("echo"), at_ms=60_000) == ([call("echo")], [])
        assert (await talk.ask(call("echo"), at_ms=60_000))[0] == []
        assert await talk.ask(call("echo"), at_ms=60_100) == ([call("echo")], [])


async def note_on_tools():
    with Conversation("note_on_tools") as talk:
        await talk.ask(asks("tools/list", 1))
        await talk.ask(asks("prompts/list", 2))
        tools = [{"name": "deploy", "description": "Deploy."}, {"name": "echo"}, {"name": "deploy"}, {"name": []}, 3]
        (listed,) = await talk.answer(result(1, tools=tools, nextCursor="x"))
        noted = listed["result"]["tools"]
        assert noted[0]["description"].startswith("Deploy.\n\nAsk the user")
        assert noted[2]["description"].endswith("production.")
        assert [noted[1], *noted[3:]] == [tools[1], *tools[3:]]
        assert listed["result"]["nextCursor"] == "x"
        for other in (result(1), result(1, tools=None), result(2, tools=tools), result(3, tools=tools)):
            assert await talk.answer(other) == [other]


async def log_slow_calls():
    with Conversation("log_slow_calls") as talk:
        logged = Collected()
        logger = logging.getLogger("__mitmproxy_script__.09_log_slow_calls")
        logger.addHandler(logged)
        await talk.ask(call("deploy", 1))
        await talk.ask(asks("ping", 2))
        failure = {"jsonrpc": "2.0", "id": 2, "error": {"code": 1, "message": "no"}}
        assert await talk.answer(text("soon"), at_ms=499) == [text("soon")]
        events = [text("late"), failure, text("of nobody", 3)]
        assert await talk.answer(*events, at_ms=500) == events
        logger.removeHandler(logged)
        assert logged.lines == ["tools/call deploy took 500 ms (response)", "ping  took 500 ms (error)"]


class Collected(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


async def latest_progress():
    with Conversation("latest_progress") as talk:
        events = [progress(1, 1), progress(2, 1), progress(1, 2), text("x"), progress(None, 1), progress(1, 3)]
        assert await talk.answer(*events) == [events[1], *events[3:]]
        assert await talk.answer(progress(1, 4), progress(None, 2), progress(None, 3)) == [
            progress(1, 4),
            progress(None, 2),
            progress(None, 3),
        ]


EFFECTS = {
    effect.__name__: effect
    for effect in (
        block_deletes,
        ask_a_human,
        mock_a_tool,
        redact_emails,
        slow_tool,
        tell_the_time,
        calls_per_minute,
        note_on_tools,
        log_slow_calls,
        latest_progress,
    )
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_does_what_it_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    in_virtual_time(EFFECTS[name]())


@pytest.mark.parametrize("path", RECIPES.values(), ids=list(RECIPES))
def test_a_recipe_is_short_and_says_what_it_does_and_how_it_is_run(path):
    source = path.read_text()
    said = ast.get_docstring(ast.parse(source)).splitlines()
    assert len(source.splitlines()) <= MAX_LINES
    assert said[0].endswith(".")
    assert said[2].startswith(f"Run as:  mitmdump -s addons/shadowcat.py -s {path.relative_to(ROOT)} -m reverse:")


def test_the_page_lists_every_recipe_once_and_in_order():
    page = (ROOT / "docs" / "cookbook.md").read_text()
    listed = re.findall(r"^\| \[[^\]]+\]\(\.\./examples/interceptors/(\w+)\.py\)", page, flags=re.MULTILINE)
    assert listed == [path.stem for path in RECIPES.values()]
    assert len(listed) == 10
    assert [stem[:2] for stem in listed] == [f"{number:02}" for number in range(1, 11)]
