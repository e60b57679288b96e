"""Shadowcat that waits half a second, and not 30 s, for servers to take what it posts in their clients' place."""

WITHIN_S = 0.5


def running() -> None:
    import shadowcat_addons.own_requests

    shadowcat_addons.own_requests.OWN_REQUEST_TIMEOUT_S = WITHIN_S
