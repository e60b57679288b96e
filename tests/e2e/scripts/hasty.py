"""Shadowcat that waits 2 s, and not 30, for servers to take what it posts in their clients' place."""

WITHIN_S = 2.0


def running() -> None:
    import shadowcat_addons.own_requests

    shadowcat_addons.own_requests.OWN_REQUEST_TIMEOUT_S = WITHIN_S
