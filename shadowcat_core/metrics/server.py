"""Serves a collector's metrics over HTTP, at `/metrics`, from the event loop.

A scrape reads what the loop's own objects count, so it is put together there in one step: no number is torn or twice,
and what it takes is a millisecond or two a few times a minute. A thread would hold the interpreter's lock as long.
"""

import asyncio
import errno
import socket

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from tornado.httpserver import HTTPServer
from tornado.web import Application, RedirectHandler, RequestHandler

from shadowcat_core.listen_address import ListenAddress

PATH = "/metrics"
IDLE_S = 300
"""How long a connection may say nothing: longer than from one scrape to the next."""


class MetricsServer:
    """Listens from when it is made until `close`.

    Raises:
        OSError: nobody can listen there; `strerror` says why.
    """

    def __init__(self, address: ListenAddress, collector: Collector) -> None:
        """Serve a collector, on the running event loop."""
        registry = CollectorRegistry()  # one of our own: the library's has the interpreter's metrics too
        registry.register(collector)
        listening = _listen(address)
        self.address = ListenAddress(address.host, listening.getsockname()[1])
        """Where it listens, with the port that the system chose."""
        pages = Application(
            [(PATH, _Page, {"registry": registry}), ("/", RedirectHandler, {"url": PATH, "permanent": False})]
        )
        self._server = HTTPServer(pages, idle_connection_timeout=IDLE_S)
        self._server.add_socket(listening)

    @property
    def url(self) -> str:
        """Where a client on this machine finds the metrics."""
        return self.address.origin + PATH

    def close(self) -> "asyncio.Task[None]":
        """Listen no more, from now on; the task closes connections that are open."""
        self._server.stop()
        return asyncio.get_running_loop().create_task(self._server.close_all_connections())


def _listen(address: ListenAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        address.host.encode("idna")  # what cannot be a name would leave a socket behind
        listening = socket.create_server((address.host, address.port), family=family)
    except UnicodeError as exc:
        raise OSError(errno.EINVAL, "no name of a host") from exc
    except OSError as exc:
        # Behind the reason the standard library says the address, as only it would.
        raise OSError(exc.errno, str(exc.strerror).partition(" (while ")[0]) from exc
    listening.setblocking(False)
    return listening


class _Page(RequestHandler):
    """The metrics, in the format that is asked for."""

    def initialize(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def get(self) -> None:
        encode, content_type = choose_encoder(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        self.finish(encode(self._registry))

    head = get

    def compute_etag(self) -> None:
        """No two scrapes are alike."""
