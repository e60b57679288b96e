"""Does what a test orders within the proxy: a PUT of /-/kill, /-/replay, /-/unload or /-/count is answered here.

`kill` ends the flows that go on, `replay` asks the server once more what it was asked first, `unload` takes Shadowcat
out, and `count` says how many exchanges and own requests Shadowcat knows, and how many files are open.
"""

import json
from pathlib import Path

from mitmproxy import ctx, http


class Ordered:
    def __init__(self) -> None:
        self._flows: list[http.HTTPFlow] = []

    def request(self, flow: http.HTTPFlow) -> None:
        if not flow.request.path.startswith("/-/"):
            self._flows.append(flow)
        elif flow.request.method == "PUT":
            said = getattr(self, flow.request.path.removeprefix("/-/"))()
            flow.response = http.Response.make(200, json.dumps(said))

    def kill(self) -> int:
        killable = [flow for flow in self._flows if flow.killable]
        ctx.master.commands.call("flow.kill", killable)
        return len(killable)

    def replay(self) -> None:
        ctx.master.commands.call("replay.client", self._flows[:1])

    def unload(self) -> None:
        ctx.options.update(scripts=[script for script in ctx.options.scripts if "shadowcat.py" not in script])

    def count(self) -> dict[str, int]:
        shadowcat = ctx.master.addons.get("shadowcat")
        return {
            "exchanges": len(shadowcat.registry),
            "own": len(shadowcat.own_requests._tasks),
            "files": len(list(Path("/proc/self/fd").iterdir())),
        }


addons = [Ordered()]
