"""Servers that look at tokens, or not, and a bed of sessions before them."""

import asyncio
import json

from shadowcat_core.sessions import Upstream
from tests.core.test_session_manager import HANDSHAKE, VERSION, Bed, Servers, answer
from tests.core.token_parts import is_genuine, token_of

OLD, NEW = token_of(n=1), token_of(n=2)
LOST = answer(404, b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Session not found"}}')
PONG = answer(body=b'{"jsonrpc":"2.0","id":"shadowcat-vouching","result":{}}')
UNREACHABLE = ConnectionRefusedError("refused")
DENIED = answer(401, b'{"error":"invalid_token"}')


class Guarded(Servers):
    """Servers that look at the token before anything else: `lets_in` decides by the headers."""

    def __init__(self, lets_in=lambda told: is_genuine(told.get("authorization"))):
        super().__init__()
        self.lets_in = lets_in

    async def __call__(self, upstream, method, headers, body):
        told = {name.lower(): value for name, value in headers}
        if self.lets_in(told):
            return await super().__call__(upstream, method, headers, body)
        self.asked.append((upstream, json.loads(body)["method"] if body else method, None, told))
        await asyncio.sleep(0)
        return DENIED


class Scripted(Servers):
    """A server that answers as it is told, whatever it is asked."""

    def __init__(self, *said):
        super().__init__()
        self.said = list(said)

    async def __call__(self, upstream, method, headers, body):
        self.asked.append((upstream, json.loads(body)["method"], None, dict(headers)))
        said = self.said.pop(0)
        if isinstance(said, BaseException):
            raise said
        return said


class RenewalBed(Bed):
    def __init__(self, servers=None, store=None, **options):
        super().__init__(store)
        self.servers = servers or Guarded()
        self.manager = self.proxy(**options)

    async def begin(self, authorization=OLD):
        return await self.manager.begin(Upstream("old", "old-1"), HANDSHAKE, VERSION, authorization)

    def pings(self):
        return self.servers.methods().count("ping")
