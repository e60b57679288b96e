"""What tests of upstreams are made of: a clock to turn by hand, files of a few words, and pools of them."""

from pathlib import Path
from random import Random

import orjson

from shadowcat_core.upstreams import FailureKind, Fleet, Member, Pool, State, UpstreamsFile, parse_upstreams


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_s(self, seconds: float) -> float:
        self.now += seconds
        return self.now


class Steady(Random):
    """Chance that always says the same; 0 shortens no back-off."""

    def __init__(self, says: float = 0.0) -> None:
        super().__init__()
        self.says = says

    def random(self) -> float:
        return self.says


def upstream(name: str, weight: int = 1, port: int | None = None, **fields) -> dict:
    return {"name": name, "url": f"http://127.0.0.1:{port or 3000 + sum(name.encode())}/mcp", "weight": weight} | fields


def route(*names: str | dict, **fields) -> dict:
    return {"upstreams": [upstream(name) if isinstance(name, str) else name for name in names]} | fields


def file(*routes: dict, **fields) -> UpstreamsFile:
    return parse_upstreams(orjson.dumps({"routes": list(routes)} | fields), Path("upstreams.json"))


def fleet(*routes: dict, clock: Clock | None = None, random: Random | None = None) -> Fleet:
    return Fleet(file(*routes), clock=clock or Clock(), random=random or Steady())


def pool(*names: str | dict, clock: Clock | None = None, random: Random | None = None, **fields) -> Pool:
    (only,) = fleet(route(*names, **fields), clock=clock, random=random).pools()
    return only


def picks(pool: Pool, count: int, **asked) -> list[str | None]:
    found = [pool.pick(**asked) for _ in range(count)]
    return [None if member is None else member.name for member in found]


def named(pool: Pool, name: str) -> Member:
    member = pool.member(name)
    assert member is not None
    return member


def break_down(pool: Pool, name: str) -> None:
    """Let requests to an upstream fail until it is down."""
    member = named(pool, name)
    for _ in range(pool.route.health.passive.failures):
        pool.failed(member, FailureKind.CONNECT, "refused")
    assert member.state is State.DOWN
