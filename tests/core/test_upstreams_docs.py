"""The manual of upstreams: its examples load, and its fields and defaults are those that there are."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from shadowcat_core.errors import UpstreamsError
from shadowcat_core.upstreams import parse_upstreams
from shadowcat_core.upstreams.models import (
    ActiveHealth,
    Backoff,
    PassiveHealth,
    Retry,
    RouteConfig,
    SessionsConfig,
    Timeouts,
    UpstreamConfig,
    UpstreamsFile,
)
from tests.core.upstream_parts import file, fleet, upstream

MANUAL = (Path(__file__).parents[2] / "docs" / "upstreams.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", MANUAL, re.DOTALL)
    return found


def test_the_worked_example_loads_and_says_what_it_seems_to():
    example = parse_upstreams(block("yaml").encode(), Path("shadowcat.yaml"))
    tools, search = example.routes
    assert [member.name for member in tools.upstreams] == ["tools-1", "tools-2", "tools-big"]
    assert tools.health.active is not None
    assert (search.balance, search.hash_by, search.host) == ("hash", "Mcp-Name", "search.example.com")
    assert example.sessions.address.location == "redis://127.0.0.1:6379/0"


def test_the_example_in_toml_says_the_same_in_short():
    (route,) = parse_upstreams(block("toml").encode(), Path("shadowcat.toml")).routes
    assert (route.name, route.balance, len(route.upstreams)) == ("tools", "least_sessions", 2)
    assert route.health.active is not None
    assert route.health.active.kind == "ping"


def test_the_mistake_that_is_shown_is_told_so():
    text = block("yaml").replace("balance: least_sessions", "balance: least_session")
    with pytest.raises(UpstreamsError) as caught:
        parse_upstreams(text.encode(), Path("shadowcat.yaml"))
    assert str(caught.value) in MANUAL


def rows(heading: str) -> dict[str, str]:
    section = MANUAL.split(f"\n### {heading}\n")[1].split("\n#")[0]
    return dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|", section, re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "prefix", "model"),
    [
        ("The file", "", UpstreamsFile),
        ("`sessions`", "", SessionsConfig),
        ("`routes[]`", "", RouteConfig),
        ("`routes[].upstreams[]`", "", UpstreamConfig),
        ("`routes[].timeouts`", "", Timeouts),
        ("`routes[].health`", "active.", ActiveHealth),
        ("`routes[].health`", "passive.", PassiveHealth),
        ("`routes[].health`", "backoff.", Backoff),
        ("`routes[].retry`", "", Retry),
    ],
)
def test_every_field_is_explained_with_its_default(heading, prefix, model: type[BaseModel]):
    told = {name.removeprefix(prefix): default for name, default in rows(heading).items() if name.startswith(prefix)}
    assert set(told) == set(model.model_fields) - ({"kind"} if model is ActiveHealth else set())
    for name, default in told.items():
        value = model.model_fields[name].default
        if isinstance(value, bool | int | float | str) and value != "":
            shown = (
                str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else value
            )
            assert default == f"`{shown}`", name


def test_the_reload_that_is_shown_is_said_so():
    old = {"name": "tools", "upstreams": [upstream("tools-1"), upstream("tools-2")]}
    new = {"name": "tools", "upstreams": [upstream("tools-2", 2), upstream("tools-3")], "balance": "hash"}
    assert str(fleet(old).apply(file(new))) in MANUAL
