"""Interceptors for the tests of holding, steered by what the traffic itself says.

A message whose params or result have `hold_s` is held so long; a call of the tool `refuse` is blocked, one of `mock`
answered, one with `retarget` goes to another tool, and requests for sampling are blocked.
"""

import asyncio

from mitmproxy import ctx

from shadowcat_core.interceptors import Block, Continue, Mock, Modify, Pause


class Steered:
    def intercept(self, message):
        if message.target == "refuse":
            return Block("not allowed here")
        if message.target == "mock":
            return Mock({"content": [{"type": "text", "text": "made up"}]})
        if message.method == "sampling/createMessage":
            return Block("no sampling")
        params = message.payload.get("params") or {}
        if "retarget" in params:
            return Modify(message.payload | {"params": {"name": params["retarget"], "_meta": params["_meta"]}})
        hold_s = params.get("hold_s") or (message.payload.get("result") or {}).get("hold_s")
        return Continue() if hold_s is None else Pause(asyncio.sleep(hold_s))


class Load:
    def running(self):
        ctx.master.addons.get("shadowcat").interception.pipeline.add(Steered())


addons = [Load()]
