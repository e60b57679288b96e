"""Refuse calls of tools whose name begins with `delete_`: the client gets an error, and the server never knows.

Run as:  mitmdump -s addons/shadowcat.py -s examples/interceptors/01_block_deletes.py -m reverse:http://127.0.0.1:3001
"""

from shadowcat_core.interceptors import Block, Continue, Verdict
from shadowcat_core.messages import Message

PREFIXES = ("delete_", "drop_", "remove_")


class BlockDeletes:
    methods = frozenset({"tools/call"})

    def intercept(self, message: Message) -> Verdict:
        tool = message.target or ""
        return Block(f"{tool} is not allowed here") if tool.startswith(PREFIXES) else Continue()


addons = [BlockDeletes()]
