"""An interceptor that fails in the way that a message says in its params or result, under `how`.

The option `failing_fail` says whether it fails open or closed; what it holds it holds for `hold_s`.
"""

import asyncio

from mitmproxy import ctx

from shadowcat_core.interceptors import Block, Continue, Inject, Modify, Pause


class Failing:
    def intercept(self, message):
        payload = message.payload if isinstance(message.payload, dict) else {}
        told = payload.get("params") or payload.get("result") or {}
        match told.get("how"):
            case "raise":
                raise LookupError("broken on purpose")
            case "hang":
                return asyncio.get_running_loop().create_future()
            case "nonsense":
                return "no verdict at all"
            case "not json":
                return Modify(b'{"jsonrpc":')
            case "not json-rpc":
                return Modify({"hello": "world"})
            case "block":
                return Block("on purpose")
            case "modify":
                return Modify(payload | {"params": told | {"how": "modified"}}, "because")
            case "inject":
                return Inject(after=[{"jsonrpc": "2.0", "method": "notifications/injected"}])
            case "hold":
                return Pause(asyncio.sleep(0.05), reason="for a while")
            case _:
                return Continue()


class Load:
    def load(self, loader):
        loader.add_option("failing_fail", str, "closed", "How the interceptor fails.")

    def running(self):
        pipeline = ctx.master.addons.get("shadowcat").interception.pipeline
        pipeline.add(Failing(), fail=ctx.options.failing_fail, timeout_s=0.3)


addons = [Load()]
