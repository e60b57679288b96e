"""A world to relay in, which ends with its test."""

import pytest

from tests.core.relay_driver import World


@pytest.fixture
async def world():
    made = []

    def make(*names, **options) -> World:
        made.append(World(*names, **options))
        return made[-1]

    yield make
    for each in made:
        await each.aclose()
