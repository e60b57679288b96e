"""Hold calls of risky tools until somebody has said yes or no, for a minute at most. Only their streams wait.

Run as:  mitmdump -s addons/shadowcat.py -s examples/interceptors/02_ask_a_human.py -m reverse:http://127.0.0.1:3001

The question is a file with the call in it, such as `asked/1f3a9c2b.json`. Say yes or no with a file beside it: create
`asked/1f3a9c2b.yes` or `asked/1f3a9c2b.no`.
"""

import asyncio
import logging
from pathlib import Path
from uuid import uuid4

from shadowcat_core.interceptors import Block, Continue, Pause, Verdict
from shadowcat_core.messages import Message

RISKY = {"deploy", "rollback"}
PATIENCE_S = 60
FOLDER = Path("asked")
logger = logging.getLogger(__name__)


class AskAHuman:
    methods = frozenset({"tools/call"})

    def intercept(self, message: Message) -> Verdict:
        if message.target not in RISKY:
            return Continue()
        FOLDER.mkdir(exist_ok=True)
        question = FOLDER / f"{uuid4().hex[:8]}.json"
        question.write_bytes(message.raw)
        logger.warning("May %s be called? See %s, answer with .yes or .no", message.target, question)
        return Pause(self.answer(question), PATIENCE_S, on_timeout=Block("nobody has allowed it"), reason=question.name)

    async def answer(self, question: Path) -> Verdict:
        while True:
            if question.with_suffix(".yes").exists():
                return Continue()
            if question.with_suffix(".no").exists():
                return Block("somebody has refused it")
            await asyncio.sleep(0.1)


addons = [AskAHuman()]
