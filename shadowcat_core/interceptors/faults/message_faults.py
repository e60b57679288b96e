"""Faults of single messages: interceptors for a pipeline, which carries out what they say and puts it on record."""

from random import Random
from typing import Final

from shadowcat_core.interceptors.faults.aim import Aim, Places
from shadowcat_core.interceptors.faults.subjects import subject_of
from shadowcat_core.interceptors.faults.toxics import Corrupt, Drop, Jitter, Latency, MessageToxic, WrongId
from shadowcat_core.interceptors.protocols import BatchInterceptor, Interceptor
from shadowcat_core.interceptors.verdicts import Continue, Delay, Modify, Verdict
from shadowcat_core.jsonrpc import JsonRpcId, Kind
from shadowcat_core.messages import Message, MessageBatch

_BLANKS: Final = b" \t\r\n"
_NOT_UTF8: Final = b"\xff"
_OTHER_IDS: Final = 1_000_000
"""Far from the ids that clients count from 0 or 1."""


class _Messages:
    """Finds the messages that a toxic takes. It declares no interest but a direction: it looks at everything itself."""

    def __init__(self, toxic: MessageToxic, aim: Aim, places: Places) -> None:
        self.direction = toxic.only_direction
        self._toxic = toxic
        self._aim = aim
        self._places = places

    def taken(self, message: Message) -> Random | None:
        """Give the dice for a message that the toxic takes."""
        if not self._toxic.concerns(subject_of(message)):
            return None
        return self._aim.takes(self._places.open(message.exchange_id))


class _Later(_Messages):
    """Delays messages by `ms`, give or take up to `jitter_ms`."""

    def __init__(self, toxic: MessageToxic, aim: Aim, places: Places, ms: float, jitter_ms: float) -> None:
        super().__init__(toxic, aim, places)
        self._ms = ms
        self._jitter_ms = jitter_ms

    def intercept(self, message: Message) -> Verdict:
        dice = self.taken(message)
        if dice is None:
            return Continue()
        ms = max(0.0, self._ms + self._jitter_ms * (2 * dice.random() - 1))
        return Delay(ms / 1_000, f"{ms:.0f} ms later")


class _Dropper(_Messages):
    """Drops messages: no verdict says that, as nobody is to be told."""

    def intercept_batch(self, batch: MessageBatch) -> None:
        for position, message in batch.where():
            if self.taken(message) is not None:
                batch.drop(position, "lost")


class _Corrupter(_Messages):
    """Makes a message into what is no JSON to anybody."""

    def __init__(self, toxic: Corrupt, aim: Aim, places: Places) -> None:
        super().__init__(toxic, aim, places)
        self._how = toxic.how

    def intercept(self, message: Message) -> Verdict:
        text = message.raw.strip(_BLANKS)
        # A document cut anywhere before its last brace is none; a number or a word would still be one.
        dice = self.taken(message) if text.endswith((b"}", b"]")) else None
        if dice is None:
            return Continue()
        at = 1 + int(dice.random() * (len(text) - 1))
        if self._how == "cut":
            return Modify(text[:at], f"cut off behind {at} bytes")
        return Modify(text[:at] + _NOT_UTF8 + text[at:], f"no UTF-8 at byte {at}")


class _Misaddresser(_Messages):
    """Gives answers another id."""

    def __init__(self, toxic: WrongId, aim: Aim, places: Places) -> None:
        super().__init__(toxic, aim, places)
        self._how = toxic.how

    def intercept(self, message: Message) -> Verdict:
        if message.kind not in (Kind.RESPONSE, Kind.ERROR) or not isinstance(message.payload, dict):
            return Continue()
        if self.taken(message) is None:
            return Continue()
        if self._how == "missing":
            return Modify({key: value for key, value in message.payload.items() if key != "id"}, "no id")
        other = None if self._how == "null" else _other_id(message.id, keeps_type=self._how == "other")
        return Modify({**message.payload, "id": other}, f"id {other!r} in place of {message.id!r}")


def _other_id(right: JsonRpcId | None, *, keeps_type: bool) -> JsonRpcId:
    if isinstance(right, str) is keeps_type:
        return f"{right}-other" if keeps_type else str(right)
    return _OTHER_IDS + (right if isinstance(right, int) else 0)


def interceptor_of(toxic: MessageToxic, aim: Aim, places: Places) -> Interceptor | BatchInterceptor:
    """Make what carries a toxic out in a pipeline, where it needs `allow_invalid`."""
    match toxic:
        case Latency():
            return _Later(toxic, aim, places, toxic.ms, toxic.jitter_ms)
        case Jitter():
            return _Later(toxic, aim, places, toxic.ms / 2, toxic.ms / 2)
        case Corrupt():
            return _Corrupter(toxic, aim, places)
        case WrongId():
            return _Misaddresser(toxic, aim, places)
        case Drop():
            return _Dropper(toxic, aim, places)
        case _:
            raise TypeError(f"{toxic.kind} works on no messages")
