"""What is told of calls whose answers were lost, through a real mitmdump: in the log, on the console, on the tape."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from shadowcat_core.cli import main
from tests.e2e import wire
from tests.e2e.proxies import SCRIPTS, Proxies
from tests.e2e.relay_lanes import Lanes, calling
from tests.e2e.relay_servers import CLOSED

TOLD = "broke off; the client was told that it may have run"


@pytest.fixture(scope="module", params=[(), (SCRIPTS / "editing.py",)], ids=["nobody decides", "a script decides"])
def lanes(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("told")
    with Proxies(folder) as proxies:
        yield Lanes(folder, {"plain": ({}, 4)}).run(
            proxies, "regular", *request.param, shadowcat_tape=str(folder / "tapes"), shadowcat_print="true"
        )


async def until(text: str, say: Callable[[], str]) -> str:
    """Wait until something says a text; all that it says."""
    async with asyncio.timeout(30):
        while True:
            said = say()
            if text in said:
                return said
            await asyncio.sleep(0.05)


def shown(folder: Path, words: str) -> str:
    (tape,) = folder.glob("tapes/*.jsonl")
    return CliRunner().invoke(main, ["tape", "show", str(tape), words]).output


@pytest.mark.parametrize("version", [wire.LEGACY_VERSION, "2025-03-26"])
async def test_an_answer_that_was_lost_is_told_wherever_messages_are(lanes: Lanes, version: str):
    before = len(lanes.proxy.process.log)
    async with lanes.lane() as lane:
        _, exchange, stream = await calling(lane, version=version)
        await exchange.send(wire.sse(wire.progress(1)))
        await stream.messages(1)
        await exchange.reset()
        (lost,) = await stream.rest()
        assert lost["error"]["code"] == CLOSED
        told = f"{lane.a.name} {TOLD}"
    log = await until(f"{CLOSED}", lambda: lanes.proxy.process.log[before:])
    assert f"shadowcat: tools/call echo · {told}" in log
    assert "← error #1" in log
    await until(told, lambda: shown(lanes.file.parent, "by:shadowcat"))
    assert f"{CLOSED}" in shown(lanes.file.parent, "tools/call")
