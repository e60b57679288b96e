"""What anybody writes who wants event streams to pass mitmproxy as they come: the peer of the proxy's bench."""

from mitmproxy import http


def responseheaders(flow: http.HTTPFlow) -> None:
    flow.response.stream = "text/event-stream" in flow.response.headers.get("content-type", "")
