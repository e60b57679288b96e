"""Interceptors that come and go at run time: a call of the tool `on` adds one of what servers say, `off` takes it out.

It renames every notification of the server's to `notifications/seen`.
"""

from mitmproxy import ctx

from shadowcat_core.interceptors import Continue, Mock, Modify
from shadowcat_core.mcp import Direction


class Seen:
    direction = Direction.SERVER_TO_CLIENT

    def intercept(self, message):
        if message.method is None:
            return Continue()
        return Modify(message.payload | {"method": "notifications/seen"})


class Switch:
    direction = Direction.CLIENT_TO_SERVER
    methods = frozenset({"tools/call"})

    def intercept(self, message):
        pipeline = ctx.master.addons.get("shadowcat").interception.pipeline
        if message.target == "on":
            pipeline.add(Seen())
            return Mock({"on": True})
        if message.target == "off":
            pipeline.remove("Seen")
            return Mock({"on": False})
        return Continue()


class Load:
    def running(self):
        ctx.master.addons.get("shadowcat").interception.pipeline.add(Switch())


addons = [Load()]
