"""What the tests of held messages share: a pipeline with a hold in it, and messages to hold."""

from dataclasses import replace

from shadowcat_core.interceptors import Continue, Pipeline
from shadowcat_core.interceptors.holding import HeldMessages, Hold
from shadowcat_core.messages import Message
from tests.core.interception import TO_CLIENT, TO_SERVER, now_s, scheduler

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"delete_all"}}'
OTHER = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"delete_one"}}'
RESULT = b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}'
ERROR = b'{"jsonrpc":"2.0","id":7,"error":{"code":-5,"message":"no"}}'
TO_CLIENT_ANSWERS = replace(TO_CLIENT, request_of=lambda _: Message(CALL, TO_SERVER))


class Desk:
    """A pipeline whose hold has a table to look at, and what was told of it."""

    def __init__(self, words=("method:*",), *, max_held=100, timeout_s=None, on_timeout=None):
        self.records, self.told = [], []
        self.held = HeldMessages(
            lambda: int(now_s() * 1e9),
            max_held=max_held,
            on_held=lambda held: self.told.append(("held", held.number)),
            on_over=lambda held: self.told.append(("over", held.number)),
            on_full=lambda held: self.told.append(("full", held.number)),
        )
        self.pipeline = Pipeline(scheduler(), on_verdict=self.records.append)
        hold = Hold(self.held, words, timeout_s=timeout_s, on_timeout=on_timeout or Continue())
        self.pipeline.add(hold, name="hold")

    @property
    def said(self):
        return [(record.action, record.reason) for record in self.records]
