"""Loaded into the proxy beside the addon, for tests to ask what only the proxy knows.

/tape?DIRECTORY   makes that the tape's directory from now on
/comment          gives the comment that the latest call to /normal has by now
"""

from urllib.parse import unquote

from mitmproxy import ctx, http

NORMAL: list[http.HTTPFlow] = []


def requestheaders(flow: http.HTTPFlow) -> None:
    path, _, query = flow.request.path.partition("?")
    match path:
        case "/tape":
            ctx.options.update(shadowcat_tape=unquote(query))
            flow.response = http.Response.make(204)
        case "/comment":
            flow.response = http.Response.make(200, NORMAL[0].comment)
        case "/normal":
            NORMAL[:] = [flow]
