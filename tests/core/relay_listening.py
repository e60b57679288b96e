"""What clients of the reference model have of their calls and streams, over all connections that they had for them."""

import orjson

from shadowcat_core.sse import SseParser

OK, FAILED, REFUSED, LEFT = "ok", "failed", "refused", "left"


class Listening:
    """What a client has of one stream, over all the connections that it had for it."""

    def __init__(self, exchange) -> None:
        self.exchange = exchange
        self._read = []

    def frames(self):
        last = [] if self.exchange is None else [bytes(self.exchange.received)]
        return [frame for part in [*self._read, *last] for frame in SseParser().feed(part)]

    def payloads(self) -> list[bytes]:
        return [frame.data for frame in self.frames() if frame.data]

    @property
    def last_event_id(self):
        return next((frame.id for frame in reversed(self.frames()) if frame.id), None)

    def drop(self, *, share=1.0, noticed=True) -> None:
        """The line breaks, when this share of what is on it has been read."""
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        received = bytes(exchange.received)
        # Who has no id yet cannot come back.
        least = 0 if self._read and self.last_event_id else received.find(b"\n\n") + 2
        self._read.append(received[: max(least, round(len(received) * share))])
        if noticed:
            exchange.leave()

    def come_back(self, exchange) -> None:
        self.exchange = exchange


class Call(Listening):
    """A call, and what became of it: how often it ran is in the servers' ledgers."""

    def __init__(self, key, tool, exchange, *, is_stream) -> None:
        super().__init__(exchange)
        self.key, self.tool, self.is_stream = key, tool, is_stream
        self.may_be_lost = False
        self.epoch = None
        self.outcome = None

    def look(self) -> None:
        """Find out what became of it."""
        exchange = self.exchange
        if exchange is None or self.outcome is not None:
            return
        if self.is_stream and (exchange.passage.carriage is not None or exchange.asked.method == "GET"):
            if exchange.asked.method == "GET" and exchange.status not in (None, 200):
                self.outcome = (REFUSED, exchange.status, None)
            messages = self.payloads()
            if messages and (result_of := _outcome(messages[-1], self.key)) is not None:
                self.outcome = result_of
        elif exchange.task.done() and not exchange.task.cancelled():
            if exchange.status == 200:
                self.outcome = _outcome(bytes(exchange.received), self.key)
            else:
                self.outcome = (REFUSED, exchange.status, None)


def _outcome(payload, key):
    message = orjson.loads(payload)
    if message.get("id") != key:
        return None
    if "result" in message:
        return (OK, None, None)
    return (FAILED, message["error"]["code"], message["error"]["data"]["mayHaveRun"])
