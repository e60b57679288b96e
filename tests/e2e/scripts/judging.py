"""An interceptor that lets nothing pass that says EVIL, in the directions that the option `judging` names.

The option may change while streams run. What has `hold_s` in its params or result is held so long, what has
`gives_up_s` there cancels the interceptor's own task after so long, and a request with `version` is made to name that
protocol version.
"""

import asyncio

from mitmproxy import ctx

from shadowcat_core.interceptors import Block, Continue, Modify, Pause
from shadowcat_core.mcp import Direction

VERSION = "io.modelcontextprotocol/protocolVersion"
DIRECTIONS = {"both": None, "c2s": Direction.CLIENT_TO_SERVER, "s2c": Direction.SERVER_TO_CLIENT}


class Judge:
    def __init__(self, direction):
        self.direction = direction

    async def intercept(self, message):
        if b"EVIL" in message.raw or b"E\0V\0I\0L" in message.raw:
            return Block("evil")
        payload = message.payload if isinstance(message.payload, dict) else {}
        told = payload.get("params") or payload.get("result") or {}
        if "gives_up_s" in told:
            if told["gives_up_s"]:
                await asyncio.sleep(told["gives_up_s"])
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        if "version" in told:
            return Modify(payload | {"params": told | {"_meta": told["_meta"] | {VERSION: told["version"]}}})
        return Pause(asyncio.sleep(told["hold_s"])) if "hold_s" in told else Continue()


class Load:
    def load(self, loader):
        loader.add_option("judging", str, "", "Directions to judge: both, c2s, s2c or none.")

    def running(self):
        self.configure({"judging"})

    def configure(self, updated):
        shadowcat = ctx.master.addons.get("shadowcat")
        if shadowcat is None or "judging" not in updated:
            return
        pipeline = shadowcat.interception.pipeline
        if any(stage.settings.name == "Judge" for stage in pipeline.stages):
            pipeline.remove("Judge")
        if ctx.options.judging:
            pipeline.add(Judge(DIRECTIONS[ctx.options.judging]))


addons = [Load()]
