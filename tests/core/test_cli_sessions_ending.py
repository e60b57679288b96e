"""`shadowcat sessions end`, and what all of its commands say of a store that they cannot use."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from shadowcat_core.cli import sessions as sessions_module
from shadowcat_core.relay.opening import open_store
from shadowcat_core.upstreams import SessionsConfig
from tests.core.cli_session_parts import keep, kept, objects, record, run

pytest_plugins = ["tests.store_contract.fixtures", "tests.core.store_addresses"]


# --- end --------------------------------------------------------------------------------------------------------------


def test_end_takes_sessions_away_by_id_and_beginning_each_once(address):
    keep(address, *(record(f"{name}-{name}", age_h=2) for name in ("alpha", "beta-", "gamma", "delta")))
    result = run("end", "alpha-alpha", "beta", "gamma-gamma", "gamm", "--store", address)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"ended {name} · at tools-1, idle 2 h" for name in ("alpha-alpha", "beta--beta-", "gamma-gamma")
    ]
    assert "3 ended in the store: their clients begin anew" in result.stderr
    assert "shadowcat.sessions.end" in result.stderr
    assert kept(address) == ["delta-delta"]


def test_end_ends_none_when_one_is_not_known(address):
    keep(address, record("alpha-alpha"))
    result = run("end", "alpha", "omega", "psi-psi", "--store", address)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "omega, psi-psi" in result.stderr
    assert kept(address) == ["alpha-alpha"]


def test_a_dry_run_says_what_would_be_ended_and_ends_nothing(address):
    keep(address, record("alpha-alpha"), record("beta-beta", age_h=5))
    result = run("end", "alpha", "--dry-run", "--store", address)
    assert (result.stdout, result.stderr) == ("would end alpha-alpha · at tools-1, idle 0 s\n", "")
    (found,) = objects(run("end", "--idle-for", "4h", "--dry-run", "--json", "--store", address))
    assert (found["id"], found["is_ended"]) == ("beta-beta", False)
    assert len(kept(address)) == 2


def test_end_takes_those_that_are_idle_for_so_long(address):
    keep(address, *(record(f"session-{number:03}", age_h=5) for number in range(230)), record("fresh-fresh"))
    result = run("end", "--idle-for", "250min", "--json", "--store", address)
    assert [each["is_ended"] for each in objects(result)] == [True] * 230
    assert kept(address) == ["fresh-fresh"]
    result = run("end", "--idle-for", "1d", "--store", address)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "shadowcat: no session is idle for so long\n"


def test_a_session_that_ended_meanwhile_is_said_to_be_gone(sqlite_address, monkeypatch):
    keep(sqlite_address, record("alpha-alpha"))
    resolved = sessions_module._resolved

    async def resolve_and_lose(store, texts):
        found = await resolved(store, texts)
        await store.end(found[0].session_id)
        return found

    monkeypatch.setattr(sessions_module, "_resolved", resolve_and_lose)
    result = run("end", "alpha", "--store", sqlite_address)
    assert (result.exit_code, result.stdout) == (0, "not ended alpha-alpha · had ended already\n")
    assert result.stderr == ""


def test_a_proxy_that_goes_on_without_the_store_does_not_bring_an_ended_session_back(address):
    async def serve():
        proxy = open_store(SessionsConfig(store=address, on_outage="open"))
        await proxy.create(record("alpha-alpha"))
        assert await proxy.touch("alpha-alpha")
        ended = await asyncio.to_thread(run, "end", "alpha", "--store", address)
        assert ended.exit_code == 0
        assert await proxy.touch("alpha-alpha") is None
        await proxy.aclose()

    asyncio.run(serve())
    assert kept(address) == []


# --- Which store ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("ls",), ("show", "aaaa"), ("end", "aaaa")])
@pytest.mark.parametrize(
    ("store", "status", "said"),
    [
        ((), 2, "Give --upstreams FILE"),
        (("--store", "memory"), 1, "in the proxy alone: use its command shadowcat.sessions"),
        (("--store", "mysql://me:hush@h/db"), 2, "allowed: memory, sqlite:PATH, redis://HOST:PORT/DB"),
        (("--store", "redis://me:hu/sh@h/0"), 1, "no number for a port"),
        (("--store", "redis://127.0.0.1:1/0"), 1, "the store does not answer: Redis:"),
        (("--store", "sqlite:missing/s.db"), 1, "there is no file missing/s.db: no proxy has kept sessions there"),
        (("--store", "sqlite:."), 1, "there is no file ."),
        (("--store", "sqlite:~no-such-person/s.db"), 1, "no-such-person"),
    ],
)
def test_a_store_that_cannot_be_asked_is_told_with_what_to_do(command, store, status, said):
    result = run(*command, *store)
    assert (result.exit_code, result.stdout) == (status, "")
    assert said in result.stderr
    assert "hush" not in result.stderr


def test_two_answers_to_one_question_are_refused(tmp_path, sqlite_address):
    file = tmp_path / "shadowcat.yaml"
    file.touch()
    assert run("ls", "--store", sqlite_address, "--upstreams", file).exit_code == 2
    assert run("end", "alpha", "--idle-for", "1h", "--store", sqlite_address).exit_code == 2
    assert run("end", "--store", sqlite_address).exit_code == 2


@pytest.mark.parametrize("span", ["", "1", "h", "-1h", "1.5h", "1w", "١h", "9999999s"])
def test_a_time_that_is_none_is_refused(sqlite_address, span):
    result = run("end", "--idle-for", span, "--store", sqlite_address)
    assert result.exit_code == 2
    assert "allowed: such as 90s, 30m, 2h, 7d" in result.stderr


def test_who_only_looks_makes_and_changes_no_file(tmp_path):
    assert run("ls", "--store", f"sqlite:{tmp_path}/s.db").exit_code == 1
    assert list(tmp_path.iterdir()) == []
    other, text = tmp_path / "other.db", tmp_path / "notes.txt"
    with closing(sqlite3.connect(other)) as database:
        database.execute("create table notes (text)")
        database.commit()
    text.write_text("nothing of the kind" * 99)
    before = other.read_bytes()
    assert "is no store of sessions" in run("ls", "--store", f"sqlite:{other}").stderr
    assert "not a database" in run("ls", "--store", f"sqlite:{text}").stderr
    assert other.read_bytes() == before
