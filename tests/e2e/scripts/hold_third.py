"""Holds the third progress notification of each stream for 400 ms."""

import asyncio
import logging
from collections import Counter

from shadowcat_core.interceptors import Continue, Pause

logger = logging.getLogger(__name__)


class HoldThird:
    methods = ("notifications/progress",)

    def __init__(self):
        self.seen = Counter()

    def intercept(self, message):
        self.seen[message.stream_id] += 1
        if self.seen[message.stream_id] != 3:
            return Continue()
        logger.info("held the third")
        return Pause(asyncio.sleep(0.4))


addons = [HoldThird()]
