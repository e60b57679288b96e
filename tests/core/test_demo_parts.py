"""The demo's parts: the example server, the client that drives it, and the processes they run in."""

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from mcp import Client

from shadowcat_core.demo import client as driver
from shadowcat_core.demo import processes, server
from shadowcat_core.demo.processes import Cast, PartFailedError


@pytest.fixture
def desk_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The example server, running as its `main` starts it, on a port of the system's choice."""
    servers: list[uvicorn.Server] = []
    listening = threading.Event()
    listeners: list[socket.socket] = []
    real_listen = server.listen

    class KnownServer(uvicorn.Server):
        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            servers.append(self)

    def known_listen(host: str, port: int) -> socket.socket:
        listeners.append(real_listen(host, port))
        listening.set()
        return listeners[0]

    monkeypatch.setattr(uvicorn, "Server", KnownServer)
    monkeypatch.setattr(server, "listen", known_listen)
    thread = threading.Thread(target=server.main, args=(["--port", "0"],))
    thread.start()
    assert listening.wait(10)
    yield f"http://127.0.0.1:{listeners[0].getsockname()[1]}/mcp"
    servers[0].should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def test_the_client_is_content_with_the_server_in_both_eras(desk_url: str):
    assert driver.main([desk_url]) == 0


def test_the_client_names_the_call_whose_answer_is_wrong(
    desk_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(driver, "DEPLOY_STEPS", ("fetch", "ship"))
    assert driver.main([desk_url]) == 1
    assert "legacy session: WrongAnswerError: tools/call deploy, progress: got" in capsys.readouterr().err


def test_the_client_says_so_when_nobody_answers(capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert driver.main([f"http://127.0.0.1:{port}/mcp"]) == 1
    assert capsys.readouterr().err.startswith("legacy session: ConnectError")


def test_the_client_misses_an_error_that_does_not_come(
    desk_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(server.releases, "nowhere", ["1.0.0"])
    assert driver.main([desk_url]) == 1
    assert "an error was expected" in capsys.readouterr().err


def test_the_example_client_prints_each_step_and_the_result(desk_url: str, tmp_path: Path):
    example = Path(__file__).parents[2] / "examples" / "progress_client.py"
    with Cast(tmp_path) as cast:
        part = cast.start("example", [sys.executable, str(example), desk_url])
        part.wait(30, lambda: None)
    *steps, result = part.log_lines()
    assert [line.split()[-1] for line in steps] == list(server.DEPLOY_STEPS)
    assert "web 2.0.0 is live" in result


async def test_a_rollback_takes_the_newest_release_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "releases", {"web": ["1.0.0", "1.1.0"]})
    async with Client(server.desk) as client:
        assert driver.text_of(await client.call_tool("rollback", {"service": "web"})) == "web is back at 1.0.0"
        assert (await client.call_tool("rollback", {"service": "web"})).is_error
        assert '"web": "1.0.0"' in str(await client.read_resource("desk://services"))


def test_the_servers_answers_are_not_held_back_by_nagle():
    with server.listen("127.0.0.1", 0) as listener:
        # What asyncio looks at before it switches TCP_NODELAY on.
        assert listener.proto == socket.IPPROTO_TCP


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


READY_THEN_SLEEP = "import time; print('ready at 7', flush=True); time.sleep(60)"


def test_a_part_is_ready_when_its_log_says_so_and_is_gone_when_the_cast_leaves(tmp_path: Path):
    with Cast(tmp_path) as cast:
        part = cast.start("server", python(READY_THEN_SLEEP))
        assert part.wait_for_line(r"ready at (\d)", 20) == "7"
        cast.check()
    assert part.process.returncode is not None


@pytest.mark.parametrize(
    ("code", "timeout_s", "said"),
    [
        ("raise SystemExit(3)", 20, "the server ended with status 3 before it was ready"),
        ("import time; time.sleep(60)", 0.1, "the server was not ready within 0.1 s"),
    ],
)
def test_a_part_that_does_not_get_ready_fails_with_its_log(code: str, timeout_s: float, said: str, tmp_path: Path):
    with Cast(tmp_path) as cast:
        part = cast.start("server", python(f"print('no such option', flush=True); {code}"))
        part.wait_for_line("(option)", 20)
        with pytest.raises(PartFailedError) as failure:
            part.wait_for_line(r"ready at (\d)", timeout_s)
    assert str(failure.value) == said
    assert failure.value.log == "no such option"


def test_only_the_end_of_a_long_log_is_told(tmp_path: Path):
    with Cast(tmp_path) as cast, pytest.raises(PartFailedError) as failure:
        cast.start("server", python("print(*range(1000), sep='\\n')")).wait_for_line("(never)", 20)
    assert failure.value.log.splitlines()[-1] == "999"
    assert len(failure.value.log.splitlines()) == processes.LOG_TAIL_LINES


def test_waiting_for_a_part_leaves_time_for_other_things(tmp_path: Path):
    turns: list[int] = []
    with Cast(tmp_path) as cast:
        cast.start("client", python("import time; time.sleep(0.2)")).wait(20, lambda: turns.append(1))
    assert turns


@pytest.mark.parametrize(
    ("code", "timeout_s", "said"),
    [
        ("raise SystemExit(4)", 20, "ended with status 4"),
        ("import time; time.sleep(60)", 0.2, "was not done within 0.2 s"),
    ],
)
def test_a_part_that_does_not_finish_its_work_fails(code: str, timeout_s: float, said: str, tmp_path: Path):
    with Cast(tmp_path) as cast, pytest.raises(PartFailedError, match=said):
        cast.start("client", python(code)).wait(timeout_s, lambda: None)


def test_a_part_that_dies_on_its_own_is_noticed(tmp_path: Path):
    with Cast(tmp_path) as cast:
        part = cast.start("proxy", python("raise SystemExit(5)"))
        part.process.wait()
        with pytest.raises(PartFailedError, match="the proxy ended with status 5"):
            cast.check()


def test_a_part_that_will_not_end_is_killed_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "STOP_S", 0.2)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    with Cast(tmp_path) as cast:
        part = cast.start("proxy", python(deaf + READY_THEN_SLEEP))
        part.wait_for_line(r"ready at (\d)", 20)
        with pytest.raises(PartFailedError, match="did not end within"):
            cast.dismiss(part)
    assert part.process.returncode == -9


def test_the_shells_proxy_settings_do_not_reach_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("SHADOWCAT_TEST", "kept")
    assert not {"HTTP_PROXY", "https_proxy"} & Cast(tmp_path).environment.keys()
    assert Cast(tmp_path).environment["SHADOWCAT_TEST"] == "kept"
