"""The standard's algorithm for event streams, transcribed as literally and slowly as it reads.

Source: WHATWG HTML, 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting an event stream". Whole stream in, all
events out: no chunks, no bytes kept, no cleverness to be wrong about.
"""

from dataclasses import dataclass, field

BOM = "\ufeff"


@dataclass
class Outcome:
    """The events as (type, data, last event id), and the state of the event source after the stream."""

    events: list[tuple[str, str, str]] = field(default_factory=list)
    last_event_id: str = ""
    retry_ms: int | None = None


def lines_of(text: str) -> list[str]:
    """Split at CRLF, LF and CR. What follows the last line end is no line: pending data is discarded at the end."""
    lines = []
    line = ""
    position = 0
    while position < len(text):
        character = text[position]
        if character == "\r" and text[position + 1 : position + 2] == "\n":
            position += 1
            character = "\n"
        if character in "\r\n":
            lines.append(line)
            line = ""
        else:
            line += character
        position += 1
    return lines


def interpret(stream: bytes) -> Outcome:
    """Run the standard's steps over a whole stream."""
    text = stream.decode("utf-8", "replace")
    text = text.removeprefix(BOM)
    outcome = Outcome()
    data_buffer = ""
    event_type_buffer = ""
    last_event_id_buffer = ""
    for line in lines_of(text):
        if line == "":
            outcome.last_event_id = last_event_id_buffer
            if data_buffer == "":
                event_type_buffer = ""
                continue
            data_buffer = data_buffer.removesuffix("\n")
            outcome.events.append((event_type_buffer or "message", data_buffer, outcome.last_event_id))
            data_buffer = ""
            event_type_buffer = ""
            continue
        if line.startswith(":"):
            continue
        name, colon, value = line.partition(":")
        if colon:
            value = value.removeprefix(" ")
        if name == "event":
            event_type_buffer = value
        elif name == "data":
            data_buffer += value
            data_buffer += "\n"
        elif name == "id":
            if "\0" not in value:
                last_event_id_buffer = value
        elif name == "retry" and value and all(digit in "0123456789" for digit in value):
            outcome.retry_ms = from_decimal(value)
    return outcome


def from_decimal(digits: str) -> int:
    """Read digits in base ten. The standard names no largest time; the parser's documented one is 2**53 - 1."""
    value = 0
    for digit in digits:
        value = min(value * 10 + int(digit), 2**53 - 1)
    return value
