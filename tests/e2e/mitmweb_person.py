"""Somebody at mitmweb's page, by the requests that the page makes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.e2e.origin import WITHIN_S
from tests.e2e.proxies import Proxy

_LOOK_S = 0.02


class Person:
    """Looks at flows, edits them, and presses buttons."""

    def __init__(self, http: httpx.AsyncClient):
        self._http = http

    async def flows(self) -> list[dict[str, Any]]:
        """All flows in their order."""
        found: list[dict[str, Any]] = (await self._get("flows")).json()
        return found

    async def flow(self, flow_id: str) -> dict[str, Any]:
        """One flow as it is now."""
        return next(flow for flow in await self.flows() if flow["id"] == flow_id)

    async def latest(self, path: str, method: str = "POST", said: bytes = b"") -> dict[str, Any]:
        """The latest flow to a path, with these bytes in its request's body."""
        for flow in reversed(await self.flows()):
            request = flow["request"]
            if (request["path"], request["method"]) == (path, method) and said in await self.body(flow, "request"):
                return flow
        raise AssertionError(f"{method} {path} with {said!r} is not in the list")

    async def body(self, flow: dict[str, Any], of: str = "response") -> bytes:
        """The body of a flow's request or response as it came."""
        return (await self._get(f"flows/{flow['id']}/{of}/content.data")).content

    async def edit(self, flow: dict[str, Any], **request: Any) -> None:
        """Change the request of a flow."""
        await self._post(f"flows/{flow['id']}", method="PUT", json={"request": request})

    async def press(self, button: str, flow: dict[str, Any]) -> None:
        """Press a button of a flow: replay, kill, resume, duplicate."""
        await self._post(f"flows/{flow['id']}/{button}")

    async def command(self, name: str, *arguments: str) -> Any:
        """Enter a command in the command bar."""
        return (await self._post(f"commands/{name}", json={"arguments": arguments})).json()["value"]

    async def set(self, **options: Any) -> None:
        """Change options."""
        await self._post("options", method="PUT", json=options)

    async def intercepted(self, path: str, said: bytes) -> dict[str, Any]:
        """The flow with these bytes in its request, once it is intercepted."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                if any(flow["intercepted"] for flow in await self.flows()):
                    return await self.latest(path, said=said)
                await asyncio.sleep(_LOOK_S)

    async def ended(self, flow: dict[str, Any], *, within_s: float = WITHIN_S) -> dict[str, Any]:
        """The flow, once it has come to an end."""
        async with asyncio.timeout(within_s):
            while True:
                now = await self.flow(flow["id"])
                if has_ended(now):
                    return now
                await asyncio.sleep(_LOOK_S)

    async def _get(self, what: str) -> httpx.Response:
        response = await self._http.get(what)
        assert response.status_code == 200, (what, response.status_code)
        return response

    async def _post(self, what: str, method: str = "POST", **more: Any) -> httpx.Response:
        response = await self._http.request(method, what, **more)
        assert response.status_code == 200, (what, response.status_code, response.text)
        return response


@asynccontextmanager
async def at_mitmweb(proxy: Proxy) -> AsyncIterator[Person]:
    """Somebody at a mitmweb's page for the length of the block."""
    assert proxy.web_url is not None
    base, _, token = proxy.web_url.partition("?token=")
    headers = {"Authorization": f"Bearer {token}", "Cookie": "_mitmproxy_xsrf=x", "X-XSRFToken": "x"}
    async with httpx.AsyncClient(base_url=base, timeout=WITHIN_S, trust_env=False, headers=headers) as http:
        yield Person(http)


def has_ended(flow: dict[str, Any]) -> bool:
    """Say whether a flow has come to an end, good or bad."""
    return bool(flow.get("error")) or bool((flow.get("response") or {}).get("timestamp_end"))
