"""The simplest streaming addon there is: the peer that proxies with ours are compared with."""

from mitmproxy import http


def responseheaders(flow: http.HTTPFlow) -> None:
    flow.response.stream = True
