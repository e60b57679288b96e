"""Lets a test call mitmproxy's commands, kill flows, and count what is kept for exchanges on their ways.

A PUT of a JSON array to /-/call names a command and its arguments; one of a JSON object to /-/set sets options. Both
are answered with what came of it, with 400 and a text when it was an error. /-/kill ends the flows that go on.
"""

import gc
import json
from pathlib import Path
from typing import Any

from mitmproxy import ctx, exceptions, http
from mitmproxy.proxy.layers.http import HttpStream


class Relayed:
    def __init__(self) -> None:
        self._flows: dict[str, http.HTTPFlow] = {}

    def request(self, flow: http.HTTPFlow) -> None:
        if not flow.request.path.startswith("/-/"):
            self._flows[flow.id] = flow
        elif flow.request.method == "PUT":
            said = json.loads(flow.request.content or b"null")
            try:
                answer = getattr(self, flow.request.path.removeprefix("/-/"))(said)
            except (exceptions.CommandError, exceptions.OptionsError) as exc:
                flow.response = http.Response.make(400, str(exc))
            else:
                flow.response = http.Response.make(200, json.dumps(answer))

    def response(self, flow: http.HTTPFlow) -> None:
        self._flows.pop(flow.id, None)

    error = response

    def call(self, said: list[Any]) -> Any:
        return ctx.master.commands.call(said[0], *said[1:])

    def set(self, said: dict[str, Any]) -> None:
        ctx.options.update(**said)

    def kill(self, _said: None) -> int:
        killable = [flow for flow in self._flows.values() if flow.killable]
        ctx.master.commands.call("flow.kill", killable)
        return len(killable)

    def count(self, _said: None) -> dict[str, int]:
        shadowcat = ctx.master.addons.get("shadowcat")
        gc.collect()
        ways, world = shadowcat.relays._ways, shadowcat.relays._relay._world
        return {
            "exchanges": len(shadowcat.registry),
            "flows": len(shadowcat.exchanges._flows),
            "ways": len(ways._ways),
            "waiting": len(ways._begun),
            "in use": sum(world.in_use.values()),
            "routes": len(ways._routes),
            "read on": len(ways._read_on),
            "carried": len(world.carried),
            "left": world.left,
            "kept": len(world.keeper),
            "connections": len(ctx.master.addons.get("proxyserver").connections),
            "streams": sum(isinstance(each, HttpStream) for each in gc.get_objects()),
            "files": len(list(Path("/proc/self/fd").iterdir())),
        }


addons = [Relayed()]
