"""What is told of failures: where in whose code, on what, with which outcome; each of its kind once a minute."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from shadowcat_core.errors import BadVerdict
from shadowcat_core.interceptors import (
    Block,
    Continue,
    Failure,
    Inject,
    Outcome,
    Pipeline,
    failure_line,
    failure_traceback,
)
from shadowcat_core.limits import MAX_FAILURE_KINDS
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import Message, MessageContext
from tests.core.interception import TO_CLIENT, TO_SERVER, Does, Says, in_virtual_time, judged, lines, scheduler
from tests.core.rule_parts import CALL as RULES_CALL
from tests.core.rule_parts import Judge, file_of

CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}'
RESULT = b'{"jsonrpc":"2.0","id":1,"result":{}}'
ERROR = b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}'
PROGRESS = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}'
SCRIPT = """\
import json

def of(message):
    return json.loads("{")

def divides(message):
    return 1 / 0

def asks_a_library(message):
    json.loads("{")

def asks_itself(message):
    return of(message)

def edits_nothing_there(batch):
    batch.drop(9)

async def divides_later(message):
    return 1 / 0

class Mine:
    def divides(self, message):
        return 1 / 0
"""
NO_JSON = "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"


@pytest.fixture
def script(tmp_path):
    """What a script defines, whose code is in a file as anybody's is."""
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT)
    namespace = {"__name__": "__mitmproxy_script__.mine"}
    exec(compile(SCRIPT, str(path), "exec"), namespace)
    return namespace


def failures_of(interceptor, *raws, context=TO_SERVER, **settings):
    told = []
    pipeline = Pipeline(scheduler(), on_failure=told.append)
    pipeline.add(interceptor, name="weak", **settings)
    in_virtual_time(judged(pipeline, lines(list(raws or [CALL]), context)))
    return told


def failed(error, **more):
    return Failure("weak", error, **{"subject": "x", "outcome": None, "suppressed": 0, "is_first": True, **more})


@pytest.mark.parametrize(
    ("shape", "name", "says"),
    [
        ("intercept", "divides", "mine.py:7 in divides: ZeroDivisionError: division by zero"),
        ("intercept", "divides_later", "mine.py:19 in divides_later: ZeroDivisionError: division by zero"),
        ("intercept", "asks_a_library", f"mine.py:10 in asks_a_library: {NO_JSON}"),
        ("intercept", "asks_itself", f"mine.py:4 in of: {NO_JSON}"),
        (
            "intercept_batch",
            "edits_nothing_there",
            "mine.py:16 in edits_nothing_there: IndexError: no position 9 in a batch of 1",
        ),
    ],
)
def test_a_failure_tells_where_in_the_code_of_who_wrote_the_interceptor(script, shape, name, says):
    (failure,) = failures_of(SimpleNamespace(**{shape: script[name]}), fail="open")
    assert failure_line(failure) == f"{says} (on tools/call echo; passed, as it fails open)"


def test_a_method_is_named_with_its_class(script):
    (failure,) = failures_of(SimpleNamespace(intercept=script["Mine"]().divides))
    assert failure_line(failure).startswith("mine.py:23 in Mine.divides: ZeroDivisionError")


def test_the_way_through_the_code_is_shown_without_ours_and_pythons(script):
    (failure,) = failures_of(SimpleNamespace(intercept=script["asks_itself"]))
    path = script["asks_itself"].__code__.co_filename
    assert [line for line in failure_traceback(failure).splitlines() if "^" not in line and "~" not in line] == [
        f'  File "{path}", line 13, in asks_itself',
        "    return of(message)",
        f'  File "{path}", line 4, in of',
        '    return json.loads("{")',
    ]


@pytest.mark.parametrize(
    ("interceptor", "says"),
    [
        (Says(lambda message: Block), "weak: the class Block is no verdict: write `Block(…)`, with parentheses"),
        (Says(lambda message: asyncio.Event().wait()), "weak: no answer within 5 s"),
        (Says(lambda message: Inject([b""])), "weak: an empty message cannot be sent; drop it instead"),
    ],
)
def test_what_fails_outside_any_code_of_theirs_is_told_by_the_interceptors_name(interceptor, says):
    (failure,) = failures_of(interceptor, timeout_s=5)
    assert failure_line(failure) == f"{says} (on tools/call echo; blocked, as it fails closed)"
    assert failure_traceback(failure) == ""


def test_an_error_of_our_own_is_shown_whole():
    namespace = {"__name__": "shadowcat_core.interceptors.guards.scan", "json": json}
    exec(compile("def bug(message):\n    json.loads('{')\n", "scan.py", "exec"), namespace)
    (failure,) = failures_of(SimpleNamespace(intercept=namespace["bug"]))
    assert "scan.py" in failure_traceback(failure)
    assert "JSONDecodeError" in failure_line(failure)


@pytest.mark.parametrize(
    ("raws", "context", "subject"),
    [
        ([CALL], TO_SERVER, "tools/call echo"),
        ([PROGRESS], TO_CLIENT, "notifications/progress"),
        ([RESULT], TO_CLIENT, "result"),
        ([ERROR], TO_CLIENT, "error"),
        ([b"{talk"], TO_CLIENT, "not JSON-RPC: {talk"),
        ([CALL, PROGRESS], TO_CLIENT, "2 messages"),
    ],
)
def test_a_failure_names_what_it_was_on(raws, context, subject):
    (failure,) = failures_of(Does(lambda batch: 1 / 0), *raws, context=context)
    assert failure.subject == subject


def test_an_answer_is_named_by_what_it_answers():
    asked = Message(CALL, TO_SERVER)
    context = MessageContext(Direction.SERVER_TO_CLIENT, Transport.HTTP, request_of=lambda _: asked)
    (failure,) = failures_of(Says(lambda message: 1 / 0), RESULT, context=context)
    assert failure.subject == "result tools/call echo"


@pytest.mark.parametrize(
    ("settings", "outcome", "says"),
    [
        ({"fail": "open"}, Outcome.PASSED, "passed, as it fails open"),
        ({"fail": "closed"}, Outcome.BLOCKED, "blocked, as it fails closed"),
        ({"fail": "closed", "mode": "audit"}, Outcome.UNTOUCHED, "nothing came of it, as it only audits"),
    ],
)
def test_a_failure_tells_what_became_of_the_message(settings, outcome, says):
    (failure,) = failures_of(Says(lambda message: 1 / 0), **settings)
    assert failure.outcome is outcome
    assert failure_line(failure).endswith(f"(on tools/call echo; {says})")


@pytest.mark.parametrize(("fail", "became"), [("closed", "blocked"), ("open", "passed")])
def test_a_rule_tells_its_name_its_template_and_that_its_file_decides(fail, became):
    rule = {"name": "needs-arg", "when": {}, "do": {"block": "{{ params.arguments.nope }}"}}
    judge = Judge(file=file_of(rule, fail=fail))
    judge.sync(RULES_CALL)
    (failure,) = judge.failures
    assert failure_line(failure) == (
        "rules: rule needs-arg: there is no 'nope' in {{ params.arguments.nope }} "
        f"(on tools/call echo; {became}, as the file fails {fail})"
    )


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (failed(KeyError("a")), "weak: KeyError: 'a'"),
        (failed(TimeoutError()), "weak: TimeoutError"),
        (failed(Unspeakable()), "weak: Unspeakable: (it fails to say what)"),
        (failed(ValueError("a\n\x1b[2J b")), "weak: ValueError: a \\x1b[2J b"),
        (failed(BadVerdict("x" * 1000)), f"weak: {'x' * 299}…"),
        (failed(KeyError("a"), suppressed=7), "weak: KeyError: 'a' (7 like it before were not told)"),
        (
            failed(KeyError("a"), suppressed=7, outcome=Outcome.PASSED),
            "weak: KeyError: 'a' (on x; passed, as it fails open; 7 like it before were not told)",
        ),
    ],
)
def test_a_line_is_one_line_whatever_an_error_says(failure, says):
    assert failure_line(failure) == says


def test_an_error_that_cannot_be_put_into_words_is_a_failure_like_any_other():
    def answer(message):
        raise Unspeakable

    (failure,) = failures_of(Says(answer))
    assert "Unspeakable" in failure_line(failure)


class Raising:
    """Raises what it is told to; the time passes a second a message."""

    def __init__(self):
        self.told = []
        self.pipeline = Pipeline(scheduler(), on_failure=self.told.append)
        self.add()

    def add(self):
        self.stage = self.pipeline.add(Says(self.answer), name="weak", fail="open")

    def answer(self, message):
        if self.error is None:
            return Continue()
        raise self.error

    async def fail(self, error, after_s=1):
        await asyncio.sleep(after_s)
        self.error = error
        await judged(self.pipeline, lines([CALL], TO_SERVER))

    @property
    def kinds(self):
        return [(str(failure.error), failure.suppressed, failure.is_first) for failure in self.told]


def test_failures_that_differ_in_type_or_text_are_told_each():
    async def main():
        weak = Raising()
        for _ in range(3):
            for error in (ValueError("a"), ValueError("b"), TypeError("a")):
                await weak.fail(error)
        assert weak.kinds == [("a", 0, True), ("b", 0, True), ("a", 0, True)]
        await weak.fail(ValueError("a"), after_s=60)
        assert weak.kinds[3:] == [("a", 2, False)]

    in_virtual_time(main())


def test_errors_that_differ_each_time_are_told_a_few_times_and_then_count_as_alike():
    async def main():
        weak = Raising()
        for number in range(40):
            await weak.fail(ValueError(f"no tool {number}"))
        most = int(MAX_FAILURE_KINDS)
        assert weak.kinds == [(f"no tool {number}", 0, True) for number in range(most + 1)]
        await weak.fail(ValueError("later"), after_s=3600)
        assert weak.kinds[most + 1 :] == [("later", 0, True)]
        assert weak.stage.metrics.failures == 41

    in_virtual_time(main())


def test_a_storm_of_errors_that_goes_on_is_told_of_once_a_minute():
    async def main():
        weak = Raising()
        for number in range(50):
            await weak.fail(ValueError(f"no tool {number}"), after_s=1)
        before = len(weak.told)
        for number in range(50, 650):
            await weak.fail(ValueError(f"no tool {number}"), after_s=1)
        assert len(weak.told) - before <= 11 * (int(MAX_FAILURE_KINDS) + 1)
        assert any(suppressed for _, suppressed, _ in weak.kinds)

    in_virtual_time(main())


@pytest.mark.parametrize("how", ["replace", "remove and add", "forget"])
def test_the_failures_of_another_interceptor_under_the_name_are_news(how):
    async def main():
        weak = Raising()
        await weak.fail(ValueError("a"))
        await weak.fail(ValueError("a"))
        if how == "replace":
            weak.pipeline.replace("weak", Says(weak.answer))
        elif how == "forget":
            weak.stage.forget_failures()
        else:
            weak.pipeline.remove("weak")
            weak.add()
        await weak.fail(ValueError("a"))
        assert weak.kinds == [("a", 0, True), ("a", 0, True)]

    in_virtual_time(main())


def test_a_failing_sink_is_told_of_without_a_message():
    told = []
    pipeline = Pipeline(scheduler(), on_verdict=lambda record: 1 / 0, on_failure=told.append)
    pipeline.add(Says(lambda message: Block()))
    pipeline.run(lines([CALL], TO_SERVER))
    (failure,) = told
    assert (failure.interceptor, failure.subject, failure.outcome) == ("on_verdict", "", None)
    assert failure_line(failure).endswith("ZeroDivisionError: division by zero")
