"""An HTTP client that uses a forward proxy as people do: CONNECT for https, the proxy's authority trusted."""

import httpx

from tests.e2e.origin import WITHIN_S
from tests.e2e.proxies import Proxy


def through_connect(proxy: Proxy, *, http2: bool = False) -> httpx.AsyncClient:
    """A client whose every request goes through `proxy`."""
    return httpx.AsyncClient(
        proxy=proxy.url, verify=proxy.tls_context(), http2=http2, timeout=WITHIN_S, trust_env=False
    )
