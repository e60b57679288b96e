"""Loads a file of upstreams: read, validated, and every problem told with its line and what would be allowed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shadowcat_core.documents import Document, Format
from shadowcat_core.errors import DocumentProblem, UpstreamsError
from shadowcat_core.upstreams.models import RouteConfig, UpstreamsFile

_FORMAT: Final = Format(UpstreamsFile, UpstreamsError, "a file of upstreams has `routes:` at its top")


def load_upstreams(path: Path) -> UpstreamsFile:
    """Load a file; every route has a name afterwards.

    Raises:
        UpstreamsError: it cannot be read or used.
    """
    return _checked(*_FORMAT.load(path))


def parse_upstreams(raw: bytes, path: Path) -> UpstreamsFile:
    """Read what a file says; `path` is for errors, and its suffix tells the language.

    Raises:
        UpstreamsError: it cannot be used.
    """
    return _checked(*_FORMAT.parse(raw, path))


def _checked(document: Document, file: UpstreamsFile) -> UpstreamsFile:
    routes = [
        route if route.name else route.model_copy(update={"name": f"route-{number}"})
        for number, route in enumerate(file.routes, 1)
    ]
    if problems := list(_contradictions(document, routes)):
        raise UpstreamsError(document.path, problems)
    return file.model_copy(update={"routes": routes})


def _contradictions(document: Document, routes: list[RouteConfig]) -> Iterator[DocumentProblem]:
    """What each part cannot know by itself."""
    names: dict[str, int] = {}
    places: dict[tuple[str | None, str], int] = {}
    upstreams: dict[str, str] = {}
    for index, route in enumerate(routes):
        if route.name in names:
            text = f"{route.name!r} is the name of routes[{names[route.name]}] too"
            yield document.problem(("routes", index, "name"), text)
        names.setdefault(route.name, index)
        place = (route.host, route.path.rstrip("/"))
        if place in places:
            text = f"routes[{places[place]}] has the same path and host, so this one would never be taken"
            yield document.problem(("routes", index, "path"), text)
        places.setdefault(place, index)
        for position, upstream in enumerate(route.upstreams):
            here = f"routes[{index}].upstreams[{position}]"
            if upstream.name in upstreams:
                text = f"{upstream.name!r} is the name of {upstreams[upstream.name]} too"
                yield document.problem(("routes", index, "upstreams", position, "name"), text)
            upstreams.setdefault(upstream.name, here)
