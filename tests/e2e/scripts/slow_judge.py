"""Looks at every message of every kind, and holds each third one for a moment; lets all of them go on."""

import asyncio
from itertools import count

from shadowcat_core.interceptors import Continue, Pause


class SlowJudge:
    def __init__(self):
        self.shown = count(1)

    def intercept(self, message):
        if message.is_json and message.payload is None:
            raise ValueError("there is no such message")
        return Pause(asyncio.sleep(0.005)) if next(self.shown) % 3 == 0 else Continue()


addons = [SlowJudge()]
