"""mitmproxy with a default `tcp_timeout` of 2 s instead of 600, so that a test of the default need not wait for it."""

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader

PATIENCE_S = 2


def load(loader: Loader) -> None:
    ctx.options._options["tcp_timeout"]._default = PATIENCE_S
