"""What `shadowcat tape show` prints: the entries of a tape that say something, and each as a line."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from rich.text import Text

from shadowcat_core.content_coding import decoded_body
from shadowcat_core.exchange import Exchange
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.mcp import Direction, Era, Recognition, RecognitionKind, Transport
from shadowcat_core.summary import ended_unsaid, summary
from shadowcat_core.tape.asides import Aside, list_entries
from shadowcat_core.tape.encoding import fields_of
from shadowcat_core.tape.records import End, Note, Open, Record, Request, Response, Verdict, header_value
from shadowcat_core.tape.rows import Row
from shadowcat_core.transcript import ARROWS, deed, duration_text, headline, printable, size_text

_ROW_STYLES: Final = {"error": "red", "invalid": "red"}
_KINDS: Final = {"GET": RecognitionKind.STREAM, "DELETE": RecognitionKind.SESSION_END}


def worth_showing(records: Iterable[Record]) -> Iterator[Row | Aside]:
    """Give the entries of a whole tape; of ends those that no message tells of, with what is to be said of them."""
    retold = _Retold()
    for entry in list_entries(retold.follow(records)):
        if isinstance(entry, Row):
            retold.see(entry)
            yield entry
        elif not isinstance(entry.record, End):
            retold.count(entry.record)
            yield entry
        elif said := retold.end(entry.record):
            yield replace(entry, summary=said)


def entry_line(entry: Row | Aside, origin_ns: int) -> Text:
    """Put an entry into a line."""
    if isinstance(entry, Aside):
        style = "red" if isinstance(entry.record, End) else "magenta"
        return Text(f"{_seconds(entry.record.at_ns - origin_ns)} {entry.line}", style)
    message = entry.message
    parts = [headline(message, answers=entry.answers), size_text(len(message.raw))]
    if entry.duration_ns is not None:
        parts.append(duration_text(entry.duration_ns))
    if entry.round > 1:
        parts.append(f"round {entry.round}")
    return Text(f"{_seconds(message.at_ns - origin_ns)} {' · '.join(parts)}", _ROW_STYLES.get(entry.status, ""))


def payload_lines(entry: Row | Aside) -> list[str]:
    """Give a message as it was on the wire; what a verdict was about, made of it, and answered."""
    payloads: list[tuple[str, bytes | None]] = []
    if isinstance(entry, Row):
        payloads = [("", entry.message.raw)]
    elif isinstance(verdict := entry.record, Verdict):
        became = None if verdict.result == verdict.original else verdict.result
        payloads = [("was: ", verdict.original), ("became: ", became), ("answered: ", verdict.reply)]
    return [printable(f"{name}{data.decode('utf-8', 'replace')}") for name, data in payloads if data is not None]


def record_line(record: Record, origin_ns: int) -> Text:
    """Put a record into a line: its fields as they are on the tape."""
    fields = fields_of(record, origin_ns)
    at_us, kind, number = fields.pop("t"), fields.pop("kind"), fields.pop("exchange", None)
    direction = fields.pop("dir", None)
    arrow = " " if direction is None else ARROWS[Direction(direction)]
    rest = " ".join(f"{name}={value!r}" for name, value in fields.items() if value not in (None, "", []))
    return Text(printable(f"{at_us:>12} µs {arrow} {kind} {'' if number is None else f'[{number}]'} {rest}"))


class _Retold:
    """Makes the exchanges of a tape again, as far as a summary needs them: it says the same as while they ran."""

    def __init__(self) -> None:
        self._exchanges: dict[int | None, Exchange] = {}
        self._opened: dict[int, Open] = {}

    def follow(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass records on, and take note of heads and bodies."""
        for record in records:
            match record:
                case Open() if record.transport == Transport.HTTP and record.era is not None:
                    self._opened[record.exchange] = record
                    self._exchanges[record.exchange] = _exchange(record)
                case Request(exchange=number) if number in self._opened:
                    self._exchanges[number] = _exchange(self._opened[number], record.data)
                case Response(exchange=number) if number in self._exchanges:
                    self._exchanges[number].status = record.status
                case _:
                    pass
            yield record

    def see(self, row: Row) -> None:
        """Take note of a message."""
        message, call = row.message, row.call
        exchange = self._exchanges.get(message.exchange_id)
        if exchange is None:
            return
        if message.direction is Direction.SERVER_TO_CLIENT:
            # A page that explains a status is no message.
            exchange.messages += message.kind is not Kind.INVALID or (exchange.status or 0) < 400
        elif call is not None and call.request is message:
            exchange.calls.append(call)

    def count(self, record: Verdict | Note) -> None:
        """Take note of what was done."""
        exchange = self._exchanges.get(record.exchange)
        match record:
            case _ if exchange is None:
                pass
            case Verdict(action=action, interceptor=by, mode=mode) if action != "release":
                exchange.deeds[deed(action, by, audited=mode == "audit")] += 1
            case Note(data={"by": str(by)}):
                exchange.deeds[f"broken by {by}"] += 1
            case _:
                pass

    def end(self, end: End) -> str:
        """Say how an exchange went; nothing when its messages have told, or when it is not known."""
        exchange = self._exchanges.pop(end.exchange, None)
        self._opened.pop(end.exchange, None)
        if exchange is None:
            return ""
        exchange.ended_ns = end.at_ns
        exchange.broke_off = None if end.how == "eof" else end.how
        return summary(exchange, end.at_ns) if ended_unsaid(exchange) else ""


def _exchange(opened: Open, raw_body: bytes = b"") -> Exchange:
    kind = _KINDS.get(opened.method, RecognitionKind.MESSAGES)
    era = Era(opened.era) if opened.era in list(Era) else None
    recognition = Recognition(kind, "", era, opened.protocol_version, opened.session)
    body = decoded_body(raw_body, header_value(opened.headers, "content-encoding")) or b""
    return Exchange(opened.exchange, opened.flow, recognition, body, opened.at_ns)


def _seconds(duration_ns: int) -> str:
    return f"{duration_ns / 1e9:9.3f} s"
