"""Make one tool two seconds slower, to see how a client bears it. Everybody else is as quick as before.

Run as:  mitmdump -s addons/shadowcat.py -s examples/interceptors/05_slow_tool.py -m reverse:http://127.0.0.1:3001
"""

from shadowcat_core.interceptors import Continue, Delay, Verdict
from shadowcat_core.messages import Message


class SlowTool:
    methods = frozenset({"tools/call"})

    def intercept(self, message: Message) -> Verdict:
        return Delay(seconds=2, reason="a slow day") if message.target == "echo" else Continue()


addons = [SlowTool()]
