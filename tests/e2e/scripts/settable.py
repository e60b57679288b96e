"""Lets a test set mitmproxy's options while it runs: a PUT of a JSON object to /-/options is answered here, with 204.

Options are put to their defaults first, so the same value again is a new beginning.
"""

import json

from mitmproxy import ctx, http


class Settable:
    def request(self, flow: http.HTTPFlow) -> None:
        if (flow.request.method, flow.request.path) == ("PUT", "/-/options"):
            wanted = json.loads(flow.request.content)
            ctx.options.update(**{name: ctx.options.default(name) for name in wanted})
            ctx.options.update(**wanted)
            flow.response = http.Response.make(204)


addons = [Settable()]
