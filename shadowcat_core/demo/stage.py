"""Run the demo: the example server, mitmdump with the suite in front of it, and the client that talks through both."""

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shadowcat_core.demo.listener import Listener, TapeFollower
from shadowcat_core.demo.processes import POLL_S, Cast, Part
from shadowcat_core.demo.screen import Screen
from shadowcat_core.demo.summary import Summary

START_TIMEOUT_S = 60.0
TALK_TIMEOUT_S = 60.0
SETTLE_S = 0.5  # several of the recorder's flush intervals: what is not on the tape then was never recorded
MCP_PATH = "/mcp"

type ProxyCommand = Callable[[str], list[str]]
"""Makes the proxy's command line for a server's origin."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the demo needs: a folder for logs, a folder for tapes, the proxy's command line, and a screen."""

    log_dir: Path
    tape_dir: Path
    proxy_command: ProxyCommand
    screen: Screen

    def perform(self, *, keep: bool) -> None:
        """Hold the conversation and show it; with `keep`, go on until interrupted. Raises PartFailedError."""
        with Cast(self.log_dir) as cast:
            server = cast.start("server", [sys.executable, "-m", "shadowcat_core.demo.server", "--port", "0"])
            server_url = server.wait_for_line(r"listening on (\S+)", START_TIMEOUT_S)
            proxy = cast.start("proxy", self.proxy_command(server_url.removesuffix(MCP_PATH)))
            proxy_origin = proxy.wait_for_line(r"listening at (?:http://)?(\S+?)\.?$", START_TIMEOUT_S)
            url = f"http://{proxy_origin}{MCP_PATH}"
            self.screen.introduce({"server": server_url, "proxy": url, "tapes": str(self.tape_dir)})
            audience = Audience(proxy, self.tape_dir, self.screen)
            client = cast.start("client", [sys.executable, "-m", "shadowcat_core.demo.client", url])
            client.wait(TALK_TIMEOUT_S, audience.listen)
            cast.dismiss(client)
            if keep:
                settle(audience.listen)
                audience.conclude()
                with contextlib.suppress(KeyboardInterrupt):
                    self.screen.invite(url)
                    while True:
                        audience.listen()
                        cast.check()
                        time.sleep(POLL_S)
            cast.dismiss(proxy)
            audience.listen()
            if not keep:
                audience.conclude()


class Audience:
    """Hears what the proxy records, shows it and counts it."""

    def __init__(self, proxy: Part, tape_dir: Path, screen: Screen) -> None:
        self.proxy = proxy
        self.tape_dir = tape_dir
        self.screen = screen
        self.listener = Listener()
        self.summary = Summary()
        self._follower: TapeFollower | None = None

    def listen(self) -> None:
        """Show what was recorded since the last time."""
        if self._follower is None:
            # The process id is part of a tape's name, so nobody else's tape is taken for ours.
            tape = next(self.tape_dir.glob(f"*-{self.proxy.process.pid}.tape.jsonl"), None)
            if tape is None:
                return
            self._follower = TapeFollower(tape)
        for record in self._follower.poll():
            for message in self.listener.hear(record, self._follower.origin_ns or 0):
                self.screen.show(message)
                self.summary.add(message)

    def conclude(self) -> None:
        """Sum up. Raises PartFailedError when the tape does not hold what the client did."""
        if self._follower is None:
            raise self.proxy.failed("wrote no tape")
        if self.summary.eras != {"legacy", "modern"}:
            raise self.proxy.failed(f"did not record both sessions, only: {', '.join(self.summary.eras) or 'none'}")
        if unanswered := self.listener.unanswered:
            raise self.proxy.failed(f"did not record the answers to: {', '.join(unanswered)}")
        self.screen.conclude(self.summary, self._follower.path, self.listener.records_missing)


def settle(listen: Callable[[], None]) -> None:
    """Listen until the recorder has had time to write all that passed."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        listen()
        time.sleep(POLL_S)
