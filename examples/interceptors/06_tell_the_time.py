"""Tell the client how long each tool took: a log message on the call's own event stream, in front of the result.

Run as:  mitmdump -s addons/shadowcat.py -s examples/interceptors/06_tell_the_time.py -m reverse:http://127.0.0.1:3001
"""

from shadowcat_core.jsonrpc import Json, Kind
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import MessageBatch


class TellTheTime:
    kinds = frozenset({Kind.RESPONSE})
    direction = Direction.SERVER_TO_CLIENT

    def intercept_batch(self, batch: MessageBatch) -> None:
        if not batch.can_insert:  # a body of JSON holds one message
            return
        for position, answer in batch.where(kinds=self.kinds, exact=True):
            call = answer.request
            if call is not None and call.method == "tools/call":
                took_ms = (answer.at_ns - call.at_ns) // 1_000_000
                batch.insert_before(position, log_message(f"{call.target} took {took_ms} ms"))


def log_message(text: str) -> Json:
    params: Json = {"level": "info", "logger": "proxy", "data": text}
    return {"jsonrpc": "2.0", "method": "notifications/message", "params": params}


addons = [TellTheTime()]
