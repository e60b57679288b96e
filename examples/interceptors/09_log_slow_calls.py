"""Log what takes longer than half a second. A hook and no class: a function of the script is enough.

Run as:  mitmdump -s addons/shadowcat.py -s examples/interceptors/09_log_slow_calls.py -m reverse:http://127.0.0.1:3001
"""

import logging

from shadowcat_core.messages import Message

SLOW_MS = 500
logger = logging.getLogger(__name__)

mcp_exact = False  # it only watches: routing by hints will do
mcp_mode = "audit"  # and nothing waits for it


def mcp_response(message: Message) -> None:
    asked = message.request
    if asked is None:
        return
    took_ms = (message.at_ns - asked.at_ns) // 1_000_000
    if took_ms >= SLOW_MS:
        logger.warning("%s %s took %s ms (%s)", asked.method, asked.target or "", took_ms, message.kind)
