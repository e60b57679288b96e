"""Where a server reports progress faster than it can be read, pass on the latest report of each burst.

Run as:  mitmdump -s addons/shadowcat.py -s examples/interceptors/10_latest_progress.py -m reverse:http://127.0.0.1:3001

A batch is what has arrived together, so a report that comes alone always passes, and nothing is ever held back.
"""

from shadowcat_core.jsonrpc import JsonRpcId
from shadowcat_core.mcp import Direction, progress_token
from shadowcat_core.messages import MessageBatch


class LatestProgress:
    methods = frozenset({"notifications/progress"})
    direction = Direction.SERVER_TO_CLIENT

    def intercept_batch(self, batch: MessageBatch) -> None:
        latest: dict[JsonRpcId, int] = {}
        for position, message in batch.where(methods=self.methods, exact=True):
            token = progress_token(message.payload)
            if token is None:
                continue
            if token in latest:
                batch.drop(latest[token], "there is a later report")
            latest[token] = position


addons = [LatestProgress()]
