"""Rehearse: answer calls of `deploy` in the server's place, with a result that looks like its own.

Run as:  mitmdump -s addons/shadowcat.py -s examples/interceptors/03_mock_a_tool.py -m reverse:http://127.0.0.1:3001
"""

from shadowcat_core.interceptors import Continue, Mock, Verdict
from shadowcat_core.messages import Message


class RehearseDeploy:
    methods = frozenset({"tools/call"})

    def intercept(self, message: Message) -> Verdict:
        if message.target != "deploy":
            return Continue()
        said = "rehearsed: nothing was deployed"
        return Mock(
            {
                "content": [{"type": "text", "text": said}],
                # A tool that declares the shape of its output is held to it by its clients.
                "structuredContent": {"result": said},
            }
        )


addons = [RehearseDeploy()]
