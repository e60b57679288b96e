"""What the tests of rules share: files from a few words, and one message through a pipeline with them."""

from pathlib import Path
from typing import Any

from shadowcat_core.interceptors import Action, Failure, Pipeline, VerdictRecord
from shadowcat_core.interceptors.rules import RuleSet, RulesFile, parse_rules
from shadowcat_core.jsonrpc import dump
from shadowcat_core.mcp import Direction, HeaderFields, Transport
from shadowcat_core.messages import Message, MessageBatch, MessageContext
from tests.core.interception import judged, scheduler

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"n": 5}}}
PROGRESS = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}
RESULT = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "hi"}]}}
ERROR = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no such tool"}}
HEADERS = HeaderFields([(b"User-Agent", b"probe/1.0"), (b"x-team", b"blue")])


def file_of(*rules: dict, **more: Any) -> RulesFile:
    return parse_rules(dump({"rules": rules, **more}), Path("rules.json"))


def context(direction: str = "c2s", answers: dict | None = None, **more: Any) -> MessageContext:
    settings: dict[str, Any] = {
        "session_id": "s-1",
        "stream_id": "flow",
        "exchange_id": 7,
        "server": "http://127.0.0.1:3001/mcp",
        "headers": HEADERS,
        **more,
    }
    if answers is not None:
        asked = Message(dump(answers), MessageContext(Direction(direction).opposite, Transport.HTTP))
        settings["request_of"] = lambda _: asked
    return MessageContext(Direction(direction), settings.pop("transport", Transport.HTTP), **settings)


class Judge:
    """Rules in a pipeline, with everything that they say."""

    def __init__(self, *rules: dict, file: RulesFile | None = None, **more: Any) -> None:
        self.set = RuleSet(file or file_of(*rules), **more)
        self.records: list[VerdictRecord] = []
        self.failures: list[Failure] = []
        self.pipeline = Pipeline(scheduler(), on_verdict=self.records.append, on_failure=self.failures.append)
        self.set.install(self.pipeline, "rules")

    @property
    def said(self) -> list[str]:
        return [str(record.action) for record in self.records]

    @property
    def hits(self) -> dict[str, int]:
        return {rule.name: rule.hits for rule in self.set.rules}

    def sync(self, message: object, where: MessageContext | None = None) -> MessageBatch:
        """Judge a message that nobody holds."""
        raw = message if isinstance(message, bytes) else dump(message)
        batch = MessageBatch.of_lines(raw + b"\n", where or context())
        assert self.pipeline.run(batch) is None
        return batch

    async def later(self, message: object, where: MessageContext | None = None) -> MessageBatch:
        batch = MessageBatch.of_lines(dump(message) + b"\n", where or context())
        await judged(self.pipeline, batch)
        return batch


def holds(when: dict, message: object, where: MessageContext | None = None) -> bool:
    """True when a rule with this condition decides about a message; it must not fail."""
    judge = Judge({"name": "it", "when": when, "do": {"block": {}}})
    judge.sync(message, where)
    assert Action.FAIL not in judge.said, judge.failures
    return judge.hits["it"] == 1
