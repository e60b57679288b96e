"""What is different between two files of upstreams: for the log when one takes the other's place."""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel

from shadowcat_core.upstreams.models import UpstreamConfig, UpstreamsFile


@dataclass(frozen=True, slots=True)
class Change:
    """Something of this name says other things in these fields."""

    name: str
    fields: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.fields)})"


@dataclass(frozen=True, slots=True)
class Changes:
    """Upstreams and routes by name. An upstream whose `url` changed is a new one, of which nothing is known yet."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()
    routes_added: tuple[str, ...] = ()
    routes_removed: tuple[str, ...] = ()
    routes_changed: tuple[Change, ...] = ()
    sessions: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts: list[tuple[str, tuple[object, ...]]] = [
            ("added", self.added),
            ("removed", self.removed),
            ("changed", self.changed),
            ("routes added", self.routes_added),
            ("routes removed", self.routes_removed),
            ("routes changed", self.routes_changed),
            ("sessions changed", self.sessions),
        ]
        return "; ".join(f"{what}: {', '.join(map(str, names))}" for what, names in parts if names) or "nothing changed"


def compare(old: UpstreamsFile, new: UpstreamsFile) -> Changes:
    """Tell what a reload changes."""
    before, after = _upstreams(old), _upstreams(new)
    routes_before = {route.name: route for route in old.routes}
    routes_after = {route.name: route for route in new.routes}
    return Changes(
        added=_missing(after, before),
        removed=_missing(before, after),
        changed=tuple(
            Change(name, fields)
            for name, (route, upstream) in after.items()
            if name in before
            and (
                fields := _different(before[name][1], upstream)
                + (() if before[name][0] == route else ("route",))
            )
        ),
        routes_added=_missing(routes_after, routes_before),
        routes_removed=_missing(routes_before, routes_after),
        routes_changed=tuple(
            Change(name, fields)
            for name, route in routes_after.items()
            if name in routes_before
            and (fields := tuple(field for field in _different(routes_before[name], route) if field != "upstreams"))
        ),
        sessions=_different(old.sessions, new.sessions),
    )  # fmt: skip


def _upstreams(file: UpstreamsFile) -> dict[str, tuple[str, UpstreamConfig]]:
    return {upstream.name: (route.name, upstream) for route in file.routes for upstream in route.upstreams}


def _missing(names: Iterable[str], among: Iterable[str]) -> tuple[str, ...]:
    there = set(among)
    return tuple(name for name in names if name not in there)


def _different(old: BaseModel, new: BaseModel) -> tuple[str, ...]:
    return tuple(name for name in type(new).model_fields if getattr(old, name) != getattr(new, name))
