"""The demo as a whole, with a proxy that does not do its part."""

import signal
import sys
from pathlib import Path

import pytest

from shadowcat_core.demo.listener import Heard
from shadowcat_core.demo.processes import PartFailedError
from shadowcat_core.demo.stage import Stage
from shadowcat_core.tape.encoding import encode, encode_header
from shadowcat_core.tape.records import End, Record, Response
from tests.core.test_demo_listener import ANSWER, CALL, HEADER, JSON_BODY, answered, asked, opened

# Sends the client straight to the server, and writes the tape it is given under its own process id.
FAKE_PROXY = """
import os, pathlib, sys, time
origin, tape, folder = sys.argv[1:]
if tape:
    pathlib.Path(folder, f"x-{os.getpid()}.tape.jsonl").write_text(tape)
print(f"listening at {origin}", flush=True)
time.sleep(60)
"""


class Memory:
    """A screen that remembers what it was told."""

    def __init__(self) -> None:
        self.shown: list[Heard] = []
        self.told: list[str] = []

    def introduce(self, parts: object) -> None:
        self.told.append("introduced")

    def show(self, message: Heard) -> None:
        self.shown.append(message)

    def conclude(self, summary: object, tape: object, records_missing: int) -> None:
        self.told.append("concluded")

    def invite(self, url: str) -> None:
        self.told.append("invited")
        signal.raise_signal(signal.SIGINT)


def stage(folder: Path, screen: Memory, *tape: Record) -> Stage:
    text = (encode_header(HEADER) + encode(tape, 0)).decode() if tape else ""
    return Stage(folder, folder, lambda origin: [sys.executable, "-c", FAKE_PROXY, origin, text, str(folder)], screen)


def call(exchange: int, era: str) -> list[Record]:
    return [
        opened(exchange, era=era),
        asked(CALL, exchange),
        Response(0, exchange, 200, "OK", JSON_BODY),
        answered(ANSWER, exchange),
        End(0, exchange, "eof"),
    ]


@pytest.mark.parametrize(
    ("tape", "said"),
    [
        ([], "the proxy wrote no tape"),
        (call(1, "legacy"), "the proxy did not record both sessions, only: legacy"),
        (
            [*call(1, "legacy"), *call(2, "modern"), opened(3), asked(CALL, 3)],
            "the proxy did not record the answers to: tools/call",
        ),
    ],
    ids=["none", "one-era", "unanswered"],
)
def test_a_proxy_that_does_not_record_what_the_client_did_fails_the_demo(tape: list[Record], said: str, tmp_path: Path):
    screen = Memory()
    with pytest.raises(PartFailedError, match=said):
        stage(tmp_path, screen, *tape).perform(keep=False)
    assert screen.told == ["introduced"]
    assert len(screen.shown) == sum(record.kind in {"request", "chunk"} for record in tape)


def test_a_kept_stage_stays_open_until_interrupted_and_then_ends_well(tmp_path: Path):
    screen = Memory()
    stage(tmp_path, screen, *call(1, "legacy"), *call(2, "modern")).perform(keep=True)
    assert screen.told == ["introduced", "concluded", "invited"]
