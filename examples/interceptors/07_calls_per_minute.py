"""Allow thirty tool calls a minute: an agent in a loop is told when it may go on.

Run as:  mitmdump -s addons/shadowcat.py -s examples/interceptors/07_calls_per_minute.py -m reverse:http://127.0.0.1:3001
"""

from collections import deque

from shadowcat_core.interceptors import Block, Continue, Verdict
from shadowcat_core.messages import Message

CALLS = 30
MINUTE_NS = 60_000_000_000


class CallsPerMinute:
    methods = frozenset({"tools/call"})

    def __init__(self) -> None:
        self.times_ns = deque[int](maxlen=CALLS)  # of the last calls that were allowed

    def intercept(self, message: Message) -> Verdict:
        if len(self.times_ns) == CALLS:
            wait_ns = self.times_ns[0] + MINUTE_NS - message.at_ns
            if wait_ns > 0:
                return Block(f"more than {CALLS} calls a minute", data={"retryAfterMs": wait_ns // 1_000_000})
        self.times_ns.append(message.at_ns)
        return Continue()


addons = [CallsPerMinute()]
