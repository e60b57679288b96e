"""Where clients of HTTP+SSE post to: the URI of an `endpoint` event, made absolute as they do it.

Source: MCP 2024-11-05, transports, "HTTP with SSE"; RFC 3986, 5.2; RFC 6454, 4.
"""

from typing import Final
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

_STAYS: Final = "%/:?@!$&'()*+,;=~[]"
_PORTS: Final = {"http": 80, "https": 443}


def endpoint_url(endpoint: str, url: str, host: str | None) -> str:
    """Give the absolute URL that a client posts to.

    Args:
        endpoint: as the server announced it.
        url: of the stream, as its server is reached.
        host: what the client calls that server (`Host`): an endpoint that names it so is on the server itself.

    Raises:
        ValueError: the endpoint is no URL.
    """
    stream, found = urlsplit(url), urlsplit(urljoin(url, endpoint))
    if _is_at(found.netloc, host):
        found = found._replace(scheme=stream.scheme, netloc=stream.netloc)
    path, query = quote(found.path, safe=_STAYS), quote(found.query, safe=_STAYS)
    return urlunsplit((found.scheme, found.netloc, path, query, ""))


def leads_elsewhere(endpoint: str, host: str | None) -> bool:
    """Say whether an endpoint names a host that its client does not talk to, or is no URL at all."""
    try:
        named = urlsplit(endpoint).netloc
    except ValueError:
        return True
    return bool(named) and not _is_at(named, host)


def is_same_origin(url: str, other: str) -> bool:
    """Say whether two absolute URLs have scheme, host and port in common.

    Raises:
        ValueError: a port is none.
    """
    return _origin(url) == _origin(other)


def _is_at(named: str, host: str | None) -> bool:
    return host is not None and named.lower() == host.lower()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
