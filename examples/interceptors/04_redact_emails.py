"""Replace e-mail addresses in results, wherever they stand: the model reads `[e-mail]`.

Run as:  mitmdump -s addons/shadowcat.py -s examples/interceptors/04_redact_emails.py -m reverse:http://127.0.0.1:3001
"""

import re

from shadowcat_core.jsonrpc import Json, Kind
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import MessageBatch

EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


class RedactEmails:
    kinds = frozenset({Kind.RESPONSE})
    direction = Direction.SERVER_TO_CLIENT

    def intercept_batch(self, batch: MessageBatch) -> None:
        for position, message in batch.where(kinds=self.kinds, exact=True):
            payload = message.payload
            if isinstance(payload, dict) and (clean := redacted(payload["result"])) != payload["result"]:
                batch.replace(position, {**payload, "result": clean}, "e-mail addresses")


def redacted(value: Json) -> Json:
    match value:
        case str():
            return EMAIL.sub("[e-mail]", value)
        case list():
            return [redacted(each) for each in value]
        case dict():
            return {name: redacted(each) for name, each in value.items()}
        case _:
            return value


addons = [RedactEmails()]
