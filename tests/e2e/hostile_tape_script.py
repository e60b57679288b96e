"""Loaded into the proxy beside the addon: a request for /tape?DIRECTORY makes that the tape's directory from now on."""

from urllib.parse import unquote

from mitmproxy import ctx, http

PATH = "/tape?"


def requestheaders(flow: http.HTTPFlow) -> None:
    if flow.request.path.startswith(PATH):
        ctx.options.update(shadowcat_tape=unquote(flow.request.path.removeprefix(PATH)))
        flow.response = http.Response.make(204)
