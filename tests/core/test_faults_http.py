"""Faults of requests: the headers and answers that a real server gives, so that clients react as to one."""

import json

import pytest

from shadowcat_core.interceptors.faults import Answer, HeaderEdit
from shadowcat_core.interceptors.faults import http_faults as faults
from shadowcat_core.interceptors.faults.aim import Aim
from shadowcat_core.interceptors.faults.toxics import HttpToxic
from shadowcat_core.messages import Message
from tests.core.fault_parts import CALL, Lab, context, request
from tests.core.interception import note

SESSION = {"Mcp-Session-Id": "s-1"}


def only(acts):
    [act] = acts
    return act


def test_an_ended_session_is_not_found_as_official_servers_say_it():
    lab = Lab("session_404")
    answer = only(lab.ask(headers=SESSION))
    assert answer.status == 404
    assert json.loads(answer.body) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32600, "message": "Session not found"},
    }
    assert lab.notes == [(1, "session_404", "404: the session is over")]


def test_an_ended_session_stays_so_and_others_live():
    lab = Lab("session_404:times=1,method=tools/call")
    assert lab.ask(headers=SESSION, messages=[request("tools/list")]) == []
    assert only(lab.ask(headers=SESSION)).status == 404
    for http_method in ("GET", "DELETE"):
        assert only(lab.ask(headers=SESSION, http_method=http_method, messages=())).status == 404
    assert only(lab.ask(headers=SESSION, messages=[request("tools/list")])).status == 404
    assert lab.ask(headers={"Mcp-Session-Id": "s-2"}) == []
    assert lab.ask() == []
    lab.rack.remove("session_404")
    assert lab.ask(headers=SESSION) == []


def test_the_oldest_ended_session_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(faults, "MAX_ENDED_SESSIONS", 2)
    lab = Lab("session_404:times=3")
    for number in range(3):
        lab.ask(headers={"Mcp-Session-Id": f"s-{number}"})
    assert lab.ask(headers={"Mcp-Session-Id": "s-0"}) == []
    assert only(lab.ask(headers={"Mcp-Session-Id": "s-1"})).status == 404


def test_a_client_without_a_session_has_none_to_lose():
    lab = Lab("session_404")
    assert lab.ask() == []
    assert lab.taken == [0]


@pytest.mark.parametrize(
    ("toxic", "header", "description"),
    [
        (
            "unauthorized",
            'Bearer error="invalid_token", error_description="Authentication required"',
            "Authentication required",
        ),
        (
            r"unauthorized:description=gone\, renew,resource_metadata=https://a.example/prm",
            'Bearer error="invalid_token", error_description="gone, renew", resource_metadata="https://a.example/prm"',
            "gone, renew",
        ),
    ],
)
def test_401_says_how_to_get_in(toxic, header, description):
    answer = only(Lab(toxic).ask())
    assert (answer.status, answer.headers) == (401, (("www-authenticate", header),))
    assert json.loads(answer.body) == {"error": "invalid_token", "error_description": description}


@pytest.mark.parametrize(
    ("messages", "answered"),
    [([CALL], 7), ([request(request_id="a"), request(request_id="b")], "a"), ([], None)],
)
def test_429_says_when_to_try_again_and_answers_the_request(messages, answered):
    lab = Lab("rate_limit:retry_after_s=9")
    answer = only(lab.ask(messages=messages))
    assert (answer.status, answer.headers) == (429, (("retry-after", "9"),))
    assert json.loads(answer.body) == {
        "jsonrpc": "2.0",
        "id": answered,
        "error": {"code": -31010, "message": "Too Many Requests"},
    }
    assert lab.notes == [(1, "rate_limit", "429: to be tried again after 9 s")]


def test_a_get_may_be_refused_and_nothing_else():
    lab = Lab("refuse_get")
    answer = only(lab.ask(http_method="GET", messages=()))
    assert (answer.status, answer.headers) == (405, (("allow", "POST, DELETE"),))
    assert json.loads(answer.body)["error"]["code"] == -32600
    assert lab.ask() == []


@pytest.mark.parametrize(("toxic", "value"), [("mcp_name", "not-echo"), ("mcp_name:how=missing", None)])
def test_the_name_in_the_header_is_another_or_none(toxic, value):
    lab = Lab(toxic)
    act = only(lab.ask(headers={"Mcp-Name": "echo"}))
    assert isinstance(act, HeaderEdit)
    assert (act.name, act.value) == ("Mcp-Name", value)
    assert lab.ask() == []
    assert lab.taken == [1]


@pytest.mark.parametrize(
    ("filters", "of", "hit"),
    [
        ("method=tools/call,target=echo", {}, True),
        ("method=tools/list", {}, False),
        ("target=ot*", {}, False),
        ("method=tools/*", {"messages": ()}, False),
        ("method=*", {"messages": ()}, True),
        ("http_method=POST", {}, True),
        ("http_method=[GD]E*", {}, False),
        ("http_method=[GD]E*", {"http_method": "DELETE", "messages": ()}, True),
    ],
)
def test_filters_pick_requests(filters, of, hit):
    assert bool(Lab(f"rate_limit:{filters}").ask(**of)) is hit


def test_a_posted_notification_has_a_method_too():
    posted = Message(note("cancelled"), context("c2s"))
    assert only(Lab("rate_limit:method=notifications/cancelled").ask(messages=[posted])).status == 429


def test_the_first_answer_wins_and_header_edits_before_it_are_made():
    lab = Lab("mcp_name", "rate_limit", "unauthorized")
    edit, answer = lab.ask(headers={"Mcp-Name": "echo"})
    assert isinstance(edit, HeaderEdit)
    assert isinstance(answer, Answer)
    assert answer.status == 429
    assert lab.taken == [1, 1, 0]


def test_a_toxic_of_another_level_works_on_no_request():
    class Other(HttpToxic):
        kind = "other"

    with pytest.raises(TypeError, match="other works on no requests"):
        faults.http_fault_of(Other(), Aim(Other(), 0))
