"""Says that mitmproxy has started: that all addons run which were loaded before this one, and that its pages are open.

mitmproxy listens before that, and would let requests through that they have not seen.
"""

import os
from pathlib import Path

from mitmproxy import ctx


def running() -> None:
    (Path(ctx.options.confdir) / f"started-{os.getpid()}").touch()
