"""A mitmproxy with scripts in it, and the room that calls their hooks."""

import textwrap

import pytest
from mitmproxy.addons.script import Script
from mitmproxy.test import taddons

from shadowcat_addons.addon_hooks import AddonHooks
from shadowcat_core.interceptors import Pipeline, on_asyncio
from tests.core.interception import TO_SERVER, judged, lines

REQUEST = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}'
RESPONSE = b'{"jsonrpc":"2.0","id":1,"result":{}}'
ERROR = b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}'
NOTIFICATION = b'{"jsonrpc":"2.0","method":"notifications/progress"}'
PRIMING = b"talk"
EVERYTHING = [REQUEST, RESPONSE, ERROR, NOTIFICATION, PRIMING]


class World:
    """A mitmproxy with addons and scripts, and our room beside them, alone with a pipeline."""

    def __init__(self, context, folder):
        self.context = context
        self.addons = context.master.addons
        self.folder = folder
        self.records, self.failures = [], []
        self.pipeline = Pipeline(on_asyncio(lambda: 0), on_verdict=self.records.append, on_failure=self.failures.append)
        self.hooks = AddonHooks(self.pipeline)
        self.addons.add(self.hooks)

    def add(self, *addons):
        self.addons.add(*addons)
        return addons[0]

    def script(self, source, name="mine.py"):
        """Load a script as mitmproxy does; `loadscript` of what is given loads it again."""
        path = self.folder / name
        self.write(source, name)
        script = Script(str(path), reload=True)
        script.reloadtask.cancel()  # the test says when it is loaded, and not the clock
        self.addons.add(script)
        script.loadscript()
        return script

    def write(self, source, name="mine.py"):
        (self.folder / name).write_text(textwrap.dedent(source))

    def names(self):
        self.hooks.look()
        return [stage.settings.name for stage in self.pipeline.stages]

    async def pass_on(self, *messages, context=TO_SERVER, look=True):
        """What is left of messages that pass as lines."""
        if look:
            self.hooks.look()
        left = await judged(self.pipeline, lines(list(messages), context))
        return left.splitlines()


@pytest.fixture
async def world(tmp_path):
    with taddons.context() as context:
        yield World(context, tmp_path)


class Listener:
    """Notes what its hooks are shown."""

    def __init__(self, name, *hooks, verdict=None):
        self.name = name
        self.shown = []
        for hook in hooks:
            setattr(self, hook, self._noting(hook, verdict))

    def _noting(self, hook, verdict):
        def note(seen):
            self.shown.append((hook, getattr(seen, "raw", None)))
            return verdict

        return note


SHOWN = {
    "mcp_request": [REQUEST],
    "mcp_response": [RESPONSE, ERROR],
    "mcp_notification": [NOTIFICATION],
    "mcp_message": EVERYTHING,
    "mcp_batch": [None],
}
