"""Edits calls of the tool `edited` and their results, and numbers the edits of calls: one that is asked twice shows."""

import itertools

from shadowcat_core.interceptors import Modify

_NUMBERS = itertools.count(1)


def mcp_request(message):
    if message.target != "edited":
        return None
    params = message.payload["params"] | {"arguments": {"edit": next(_NUMBERS)}}
    return Modify(message.payload | {"params": params})


def mcp_response(message):
    if "to_edit" not in message.payload["result"]:
        return None
    return Modify(message.payload | {"result": {"edited": True}})
