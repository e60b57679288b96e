"""Headless Chromium, driven over the W3C WebDriver protocol that chromedriver speaks."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.origin import WITHIN_S
from tests.e2e.processes import ChildProcess, environment, free_port

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1600,1000",
)

# Looks again whenever the page changes, and answers with its text when everything wanted stands there.
WAIT_FOR_TEXT = """
const [wanted, done] = arguments;
const observer = new MutationObserver(look);
observer.observe(document, {childList: true, subtree: true, characterData: true});
look();
function look() {
  const text = document.body.innerText;
  if (wanted.every(one => text.includes(one))) { observer.disconnect(); done(text); }
}
"""


class BrowserError(Exception):
    """The driver could not do what it was told; its words."""


class Browser:
    """One browser window."""

    def __init__(self, driver: httpx.AsyncClient, session: str):
        self._driver = driver
        self._session = session

    async def _do(self, command: str, **arguments: Any) -> Any:
        response = await self._driver.post(f"/session/{self._session}/{command}", json=arguments)
        if response.status_code != 200:
            raise BrowserError(response.json()["value"]["message"])
        return response.json()["value"]

    async def go(self, url: str) -> None:
        await self._do("url", url=url)

    async def text(self) -> str:
        """The text a person sees on the page."""
        return str(await self._do("execute/sync", script="return document.body.innerText", args=[]))

    async def see(self, *wanted: str) -> str:
        """Wait until all of `wanted` stand on the page; the page's text. Fails showing what does stand there."""
        try:
            return str(await self._do("execute/async", script=WAIT_FOR_TEXT, args=[wanted]))
        except BrowserError as error:
            raise AssertionError(f"not all of {wanted} are on the page, which says:\n{await self.text()}") from error


@contextlib.asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Browser]:
    """A fresh browser with a new empty profile in `folder`."""
    port = free_port()
    env = environment(HOME=str(folder), XDG_CONFIG_HOME=str(folder), XDG_CACHE_HOME=str(folder))
    argv = (str(shutil.which("chromedriver")), f"--port={port}")
    options = {"binary": shutil.which("chromium"), "args": [*FLAGS, f"--user-data-dir={folder / 'profile'}"]}
    patience = {"script": WITHIN_S * 1_000}
    wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "timeouts": patience}}}
    with ChildProcess("chromedriver", argv, port=port, log=folder / "chromedriver.txt", env=env) as driver:
        driver.wait_listening()
        base = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, timeout=3 * WITHIN_S, trust_env=False) as client:
            made = await client.post("/session", json=wanted)
            assert made.status_code == 200, made.text
            session = made.json()["value"]["sessionId"]
            try:
                yield Browser(client, session)
            finally:
                await client.delete(f"/session/{session}")
