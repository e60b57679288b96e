"""What happened beside the messages of a tape: verdicts, notes and ends, each with the message that it is about."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shadowcat_core.jsonrpc import Json
from shadowcat_core.mcp import Direction
from shadowcat_core.tape.encoding import fields_of
from shadowcat_core.tape.meaning import TapeMeaning
from shadowcat_core.tape.records import End, Note, Record, Verdict
from shadowcat_core.tape.rows import Row, RowReader
from shadowcat_core.transcript import DEEDS, deed, deed_line, note_line


@dataclass(frozen=True, slots=True)
class Aside:
    """What happened beside the messages: a verdict, a note, or the end of an exchange."""

    record: Verdict | Note | End
    about: Row | None
    """The message that a verdict concerns, or what the exchange asks first; None when that is not on the tape."""
    summary: str = ""
    """Of an end: what was asked, and how it went."""

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The names of a verdict: as it is on the tape, and as it is said."""
        match self.record:
            case Verdict(action=action):
                return action, DEEDS.get(action, action)
            case _:
                return ()

    @property
    def by(self) -> tuple[str, ...]:
        """Who did it, where that is known."""
        match self.record:
            case Verdict(interceptor=name) | Note(data={"by": str(name)}):
                return (name,)
            case _:
                return ()

    @property
    def line(self) -> str:
        """It in one line."""
        match self.record, self.about:
            case Verdict() as verdict, Row(message=message, answers=answers):
                done = deed(verdict.action, verdict.interceptor, verdict.reason, audited=verdict.mode == "audit")
                changed = verdict.result if verdict.action == "modify" else None
                became = None if changed is None else message.with_raw(changed)
                return deed_line(message, done, answers=answers, became=became)
            case Note(text=text), about:
                return note_line(None if about is None else about.message, text)
            case _:
                return f"· {self.summary}"

    def as_json(self, origin_ns: int) -> dict[str, Json]:
        """Return it for scripts: its record's fields, and what the message that it is about is about."""
        fields: dict[str, Json] = dict(fields_of(self.record, origin_ns))
        fields["method"] = None if self.about is None else self.about.method
        fields["target"] = None if self.about is None else self.about.target
        if isinstance(self.record, Verdict) and self.about is not None:
            fields["id"] = self.about.message.id
        if self.summary:
            fields["summary"] = self.summary
        return fields


def list_entries(records: Iterable[Record]) -> Iterator[Row | Aside]:
    """Give the rows of a whole tape, and in their places all verdicts and notes, and the ends of what could be read."""
    meaning, rows = TapeMeaning(), RowReader()
    asked: dict[int | None, Row] = {}
    for record in records:
        if isinstance(record, Verdict):
            yield Aside(record, rows.concerned(record, meaning.of(record.exchange).session))
        elif isinstance(record, Note):
            yield Aside(record, asked.get(record.exchange))
        reader = meaning.of(record.exchange) if isinstance(record, End) else None
        for row in map(rows.row, meaning.read(record)):
            if row.message.direction is Direction.CLIENT_TO_SERVER:
                asked.setdefault(row.message.exchange_id, row)
            yield row
        if isinstance(record, End) and reader is not None:
            about = asked.pop(record.exchange, None)
            if reader.problem is None:
                yield Aside(record, about)
