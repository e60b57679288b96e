"""Actions as functions that give the verdict on a message, their templates filled in from it. No I/O."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from jinja2 import TemplateError

from shadowcat_core.errors import InvalidMessage, RuleFailed
from shadowcat_core.interceptors.rules.models import (
    BlockAction,
    Do,
    InjectAction,
    MockAction,
    ModifyAction,
    OnTimeout,
    PauseAction,
)
from shadowcat_core.interceptors.rules.subject import Part, Subject
from shadowcat_core.interceptors.rules.templates import Values, content_template, text_template
from shadowcat_core.interceptors.rules.values import pointer_steps, same, with_value, without
from shadowcat_core.interceptors.verdicts import Block, Continue, Delay, Inject, Mock, Modify, Pause, Verdict
from shadowcat_core.jsonrpc import Json
from shadowcat_core.mcp import HeaderLookup
from shadowcat_core.messages import Message, RpcError

type Act = Callable[[Subject, int], Verdict]
"""Gives the verdict on a message that is the nth the rule holds for."""
type Hold = Callable[[Message, float | None, Verdict], Pause]
"""Holds a message that a rule pauses: for so many seconds at most, and then with this verdict."""
type _Fill = Callable[[Subject, Values], Verdict]

_CONTINUE: Final = Continue()


def compiled(do: Do, rule: str, hold: Hold) -> Act:
    """Make the function of an action.

    What it gives raises:
        RuleFailed: a template finds nothing, or the edit does not fit the message.
    """
    fill = _pause(do.pause, rule, hold) if do.pause is not None else _instant(do, rule)
    if do.continue_ is not None:
        return lambda _subject, _occurrence: _CONTINUE

    def act(subject: Subject, occurrence: int) -> Verdict:
        try:
            return fill(subject, _values(subject, rule, occurrence))
        except (TemplateError, InvalidMessage, ValueError, TypeError, ArithmeticError) as exc:
            raise RuleFailed(rule, str(exc)) from exc

    return act


def _instant(do: Do | OnTimeout, rule: str) -> _Fill:
    """Make the function of an action that waits for nobody."""
    if do.modify is not None:
        return _modify(do.modify, rule)
    if do.block is not None:
        return _block(do.block, rule)
    if do.mock is not None:
        return _mock(do.mock, rule)
    if isinstance(do, Do) and do.delay is not None:
        seconds, reason = do.delay.seconds, _reason(do.delay.reason, rule)
        return lambda _, values: Delay(seconds, reason(values))
    if isinstance(do, Do) and do.inject is not None:
        return _inject(do.inject, rule)
    return lambda _subject, _values: _CONTINUE


def _modify(action: ModifyAction, rule: str) -> _Fill:
    reason = _reason(action.reason, rule)
    if "content" in action.model_fields_set:
        content = content_template(action.content)
        return lambda _, values: Modify(_message(content(values)), reason(values))
    places = [(pointer_steps(pointer), content_template(value)) for pointer, value in (action.set or {}).items()]
    gone = [pointer_steps(pointer) for pointer in action.remove or ()]

    def modify(subject: Subject, values: Values) -> Verdict:
        payload = edited = subject.message.payload
        for steps in gone:
            edited = without(edited, steps)
        for steps, value in places:
            edited = with_value(edited, steps, value(values))
        return _CONTINUE if same(edited, payload) else Modify(edited, reason(values))

    return modify


def _block(action: BlockAction, rule: str) -> _Fill:
    reason, data = _reason(action.reason, rule), content_template(action.data)
    return lambda _, values: Block(reason(values), action.code, data(values))


def _mock(action: MockAction, rule: str) -> _Fill:
    reason = _reason(action.reason, rule)
    if action.error is None:
        result = content_template(action.result)
        return lambda _, values: Mock(result(values), reason=reason(values))
    code = action.error.code
    message, data = text_template(action.error.message), content_template(action.error.data)
    return lambda _, values: Mock(error=RpcError(code, message(values), data(values)), reason=reason(values))


def _inject(action: InjectAction, rule: str) -> _Fill:
    reason = _reason(action.reason, rule)
    before, after = ([content_template(each) for each in messages] for messages in (action.before, action.after))
    return lambda _, values: Inject(
        [_message(content(values)) for content in before],
        [_message(content(values)) for content in after],
        reason(values),
    )


def _pause(action: PauseAction, rule: str, hold: Hold) -> _Fill:
    reason, on_timeout = _reason(action.reason, rule), _instant(action.on_timeout, rule)

    def pause(subject: Subject, values: Values) -> Verdict:
        why = reason(values)
        # Before it is held: who holds it might show it to somebody, and this may fail.
        otherwise = on_timeout(subject, values)
        held = hold(subject.message, action.timeout_s, otherwise)
        return replace(held, reason=f"{held.reason}: {why}" if held.reason else why)

    return pause


def _reason(text: str, rule: str) -> Callable[[Values], str]:
    """A reason ends with the name of its rule: on the tape it says whose the verdict is."""
    if not text:
        return lambda _: f"rule {rule}"
    template = text_template(text)
    return lambda values: f"{template(values)} (rule {rule})"


def _message(content: Json) -> Json:
    """What a file gives as a message need not say which JSON-RPC it is."""
    return {"jsonrpc": "2.0", **content} if isinstance(content, dict) else content


class _Headers:
    """The request's headers as a template names them."""

    def __init__(self, headers: HeaderLookup) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        value = self._headers.get(name)
        if value is None:
            raise KeyError(name)
        return value


def _values(subject: Subject, rule: str, occurrence: int) -> Values:
    """What templates can name. What a message does not have is not there."""
    message, context = subject.message, subject.message.context
    values: dict[str, object] = {
        "direction": str(context.direction),
        "kind": str(subject.kind),
        "occurrence": occurrence,
        "rule": rule,
        "transport": str(context.transport),
    }
    optional = {
        "exchange": context.exchange_id,
        "headers": None if context.headers is None else _Headers(context.headers),
        "id": message.id,
        "method": subject.method,
        "server": context.server,
        "session": context.session_id,
        "stream": context.stream_id,
        "target": subject.target,
    }
    values |= {name: value for name, value in optional.items() if value is not None}
    if message.is_json:
        values["message"] = message.payload
    for part in Part:
        if found := subject.part(part):
            values[str(part)] = found[0]
    return values
