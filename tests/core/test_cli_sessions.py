"""`shadowcat sessions`: what people and scripts see of the sessions in a store."""

import json

import pytest

from shadowcat_core.cli import sessions as sessions_module
from shadowcat_core.cli.session_lines import short_ids, span_text
from shadowcat_core.sessions import Event, Handshake, SessionRecord, SessionTimes, Upstream, event_id
from tests.core.cli_session_parts import HOUR_MS, SECRET, handshake, keep, kept, objects, record, run, with_store

pytest_plugins = ["tests.store_contract.fixtures", "tests.core.store_addresses"]


# --- ls ---------------------------------------------------------------------------------------------------------------


def test_ls_is_a_table_in_the_order_in_which_sessions_began(address):
    keep(
        address,
        record("bbbb-bbbb-bbbb-bbbb", age_h=0.5, shaken=handshake("agent", "1.4"), upstream="tools-2"),
        record("aaaa-aaaa-aaaa-aaaa", age_h=49),
    )

    async def change(store):
        for uri in ("file:///a", "file:///b"):
            await store.add_subscription("bbbb-bbbb-bbbb-bbbb", uri)
        await store.rebind("bbbb-bbbb-bbbb-bbbb", 1, Upstream("tools-3", "n"))
        await store.touch("bbbb-bbbb-bbbb-bbbb")

    with_store(address, change)
    result = run("ls", "--store", address)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "session upstream epoch protocol client age idle subscriptions",
        "aaaa-aaaa-aa tools-1 1 2025-11-25 inspector 0.17.2 2 d 2 d 0",
        "bbbb-bbbb-bb tools-3 2 2025-11-25 agent 1.4 30 min 0 s 2",
    ]
    assert len({len(line) for line in result.stdout.splitlines()}) == 1


def test_ls_prints_an_object_a_line_for_scripts(address):
    keep(address, record("aaaa-aaaa", age_h=2), record("bbbb-bbbb", credential=""))
    first, second = objects(run("ls", "--json", "--store", address))
    assert first["client"] == {"name": "inspector", "version": "0.17.2"}
    assert (first["id"], first["upstream"], first["epoch"], first["protocol_version"]) == (
        "aaaa-aaaa",
        "tools-1",
        1,
        "2025-11-25",
    )
    assert first["age_s"] >= 7200
    assert first["created"] == first["used"] < first["expires"]
    assert (first["subscriptions"], first["log_level"]) == (0, None)
    assert (first["is_bound"], second["is_bound"]) == (True, False)


def test_ls_reads_all_pages_and_a_limit_takes_the_oldest(address):
    keep(address, *(record(f"session-{number:04}", age_h=(250 - number) / 60) for number in range(250)))
    found = objects(run("ls", "--json", "--store", address))
    assert [each["id"] for each in found] == [f"session-{number:04}" for number in range(250)]
    for limit in (1, 100, 150, 249):
        result = run("ls", "--json", "--limit", limit, "--store", address)
        assert [each["id"] for each in objects(result)] == [each["id"] for each in found[:limit]]
        assert result.stderr == f"shadowcat: these are the {limit} oldest of 250 sessions\n"
    assert run("ls", "--limit", 250, "--store", address).stderr == ""


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_ls_says_that_a_store_is_empty(address, option):
    with_store(address, lambda store: store.count())
    result = run("ls", "--store", address, *option)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "shadowcat: there are no sessions in this store\n"


def test_the_file_of_upstreams_names_the_store(tmp_path, address):
    keep(address, record("aaaa-aaaa"))
    file = tmp_path / "shadowcat.yaml"
    routes = "routes: [{upstreams: [{name: tools-1, url: 'http://127.0.0.1:1/mcp'}]}]\n"
    file.write_text(f"sessions: {{store: '{address}'}}\n{routes}")
    assert objects(run("ls", "--json", "--upstreams", file))[0]["id"] == "aaaa-aaaa"
    file.write_text(routes)
    result = run("ls", "--upstreams", file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "in the proxy alone: use its command shadowcat.sessions" in result.stderr
    file.write_text(f"sessions: {{stor: '{address}'}}\n{routes}")
    result = run("ls", "--upstreams", file)
    assert result.exit_code == 1
    assert "did you mean 'store'" in result.stderr


# --- What peers said --------------------------------------------------------------------------------------------------

EVIL = "\x1b]0;owned\x07\x1b[2J[bold]:smile:[/x]\u009b31m\u202egnp\nforged  row\ud800"


@pytest.mark.parametrize(
    ("command", "lines"), [(("ls",), 2), (("ls", "--json"), 1), (("show", "aaaa"), 18), (("show", "aaaa", "--json"), 1)]
)
def test_what_a_client_calls_itself_never_speaks_to_the_terminal(sqlite_address, command, lines):
    shaken = handshake(EVIL, EVIL)
    result = json.loads(shaken.result)
    result["result"]["capabilities"] = {EVIL: {}}
    shaken = Handshake(shaken.request, json.dumps(result).encode())
    keep(sqlite_address, record("aaaa-aaaa", shaken=shaken, upstream="\x1b[31mred\x9b[/y]"))

    async def change(store):
        await store.add_subscription("aaaa-aaaa", "file:///\x1b[2J\u202e")
        await store.set_log_level("aaaa-aaaa", "\x1b[5m")
        await store.open_stream("aaaa-aaaa", "stream", 'post ["\\u001b[2J", 7]')
        await store.append("aaaa-aaaa", "stream", [Event(b"data: 1", "\x1b[2Jid")], position=0)

    with_store(sqlite_address, change)
    result = run(*command, "--store", sqlite_address)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.replace("\n", "").isprintable()
    assert "owned" in result.stdout
    assert len(result.stdout.splitlines()) == lines
    if command[-1] == "--json":
        (found,) = objects(result)
        assert found["client"]["name"] == EVIL


@pytest.mark.parametrize(
    "request_body",
    [b"", b"[", b"[]", b"7", b'{"params": []}', b'{"params": {"clientInfo": 1}}', b"[" * 5000, b"\xff\xfe",
     b'{"params": {"clientInfo": {"name": 5, "version": {}}}}'],
)  # fmt: skip
def test_a_handshake_that_makes_no_sense_is_listed_all_the_same(sqlite_address, request_body):
    keep(sqlite_address, record("aaaa-aaaa", shaken=Handshake(request_body, request_body)))
    assert "2025-11-25  –" in run("ls", "--store", sqlite_address).stdout
    shown = run("show", "aaaa-aaaa", "--store", sqlite_address)
    assert shown.exit_code == 0
    assert "server can     –" in shown.stdout
    (found,) = objects(run("show", "aaaa-aaaa", "--json", "--store", sqlite_address))
    assert found["client"] == found["server"] == {"name": None, "version": None}


def test_a_long_name_is_cut_and_a_wide_one_does_not_break_the_columns(sqlite_address):
    keep(
        sqlite_address, record("aaaa-aaaa", shaken=handshake("x" * 9_000)), record("bbbb-bbbb", shaken=handshake("猫"))
    )
    header, long, wide = run("ls", "--store", sqlite_address).stdout.splitlines()
    assert len(long) == len(header) < 120
    assert len(wide) == len(header) - 1
    assert "x…" in long


# --- show -------------------------------------------------------------------------------------------------------------


def test_show_says_all_about_a_session_and_nothing_of_its_credential(address):
    keep(address, record("aaaa-aaaa-aaaa", age_h=3))

    async def change(store):
        await store.add_subscription("aaaa-aaaa-aaaa", "file:///notes")
        await store.set_log_level("aaaa-aaaa-aaaa", "warning")
        await store.rebind("aaaa-aaaa-aaaa", 1, Upstream("tools-2"))
        await store.open_stream("aaaa-aaaa-aaaa", "stream-1", 'post [3,"x"]')
        await store.append("aaaa-aaaa-aaaa", "stream-1", [Event(b"1", "e-1"), Event(b"2", "e-2")], position=0)
        await store.close_stream("aaaa-aaaa-aaaa", "stream-1")
        await store.open_stream("aaaa-aaaa-aaaa", "stream-2", "get")
        return await store.stream_of("aaaa-aaaa-aaaa", event_id("stream-1", 1))

    assert with_store(address, change).position == 2
    result = run("show", "aaaa-aaaa-aaaa", "--store", address)
    assert (result.exit_code, result.stderr) == (0, "")
    said = {line[:15].strip(): line[15:] for line in result.stdout.splitlines() if not line.startswith(" ")}
    assert said["session"] == "aaaa-aaaa-aaaa"
    assert said["upstream"] == "tools-2"
    assert said["its session"] == "none: this server gives no ids"
    assert said["epoch"] == "2, moved once"
    assert said["protocol"] == "2025-11-25"
    assert said["client"] == "inspector 0.17.2"
    assert said["client can"] == "roots, sampling"
    assert said["server"] == "files 3"
    assert said["server can"] == "tools"
    assert said["bound to"] == "an Authorization header"
    assert said["began"].endswith("Z, 3 h ago")
    assert said["ends"].startswith("when idle for 4 d, and at 2")
    assert said["log level"] == "warning"
    assert "  file:///notes\n" in result.stdout
    assert '  stream-1 · answers 3, "x" · complete · at event 2, server\'s id e-2\n' in result.stdout
    assert "  stream-2 · the server's own · open · at event 0\n" in result.stdout
    (found,) = objects(run("show", "aaaa-aaaa-aaaa", "--json", "--store", address))
    assert found["subscriptions"] == ["file:///notes"]
    assert found["streams"] == [
        {"id": "stream-1", "requests": [3, "x"], "position": 2, "is_closed": True, "upstream_event_id": "e-2"},
        {"id": "stream-2", "requests": [], "position": 0, "is_closed": False, "upstream_event_id": None},
    ]
    assert (found["upstream_session"], found["idle_ttl_s"]) == (None, 360_000)
    assert SECRET not in result.stdout + json.dumps(found)


def test_show_of_a_session_without_more_says_so(sqlite_address):
    keep(sqlite_address, record("aaaa-aaaa", credential=""))
    shown = run("show", "aaaa-aaaa", "--store", sqlite_address).stdout
    assert "bound to       nobody: whoever knows the id may use it\n" in shown
    assert "its session    at-aaaa-aaa\n" in shown
    assert "epoch          1\n" in shown
    for name in ("log level", "subscriptions", "streams"):
        assert f"{name:<15}–\n" in shown


def test_a_moment_beyond_the_calendar_is_shown_in_milliseconds(sqlite_address):
    one = record("aaaa-aaaa")
    times = SessionTimes(one.times.created_ms, one.times.used_ms, 60_000, 10**17)
    keep(sqlite_address, SessionRecord(one.mapping, one.handshake, times))
    shown = run("show", "aaaa-aaaa", "--store", sqlite_address).stdout
    assert f"when idle for 1 min, and at {times.ends_ms} ms at the latest" in shown


@pytest.mark.parametrize("text", ["-abc-abcd-abcd", "-abc", "--xy-xyxy", "--xy", "_under", "dots.and"])
def test_any_id_or_beginning_that_we_give_out_can_be_given(address, text):
    keep(address, *map(record, ("-abc-abcd-abcd", "--xy-xyxy", "_under_", "dots.and.more")))
    (found,) = objects(run("show", text, "--json", "--store", address))
    assert found["id"].startswith(text)


@pytest.mark.parametrize("command", ["show", "end"])
@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("", 3, "too short: ''; of an id's beginning, at least 4 characters are needed (`shadowcat sessions ls`"),
        ("alp", 3, "too short: alp; of an id's beginning, at least 4 characters are needed"),
        ("ALPHA-1", 3, "no session has this id, or begins with it: ALPHA-1"),
        ("alpha-111-x", 3, "shadowcat sessions ls"),
        ("\x1b[2J~~", 3, "\\x1b[2J~~"),
        ("alph", 4, "alph begins 2 sessions: alpha-111-on, alpha-111-tw; give more of it"),
    ],
)
def test_what_names_no_session_or_several_is_an_error_and_changes_nothing(address, command, text, status, said):
    keep(address, record("alpha-111-one", age_h=1), record("alpha-111-two"))
    result = run(command, text, "--store", address)
    assert (result.exit_code, result.stdout) == (status, "")
    assert said in result.stderr
    assert result.stderr.replace("\n", "").isprintable()
    assert kept(address) == ["alpha-111-one", "alpha-111-two"]


def test_of_several_each_is_told_why_it_names_no_session(address):
    keep(address, record("alpha-111-one"))
    result = run("end", "alp", "alpha-111-one", "beta-1", "be", "--store", address)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "too short: alp, be; of an id's beginning" in result.stderr
    assert "; no session has this id, or begins with it: beta-1 (" in result.stderr
    assert kept(address) == ["alpha-111-one"]


def test_an_exact_id_counts_before_those_that_it_begins(sqlite_address):
    keep(sqlite_address, record("alpha"), record("alpha-2"))
    assert objects(run("show", "alpha", "--json", "--store", sqlite_address))[0]["id"] == "alpha"


def test_many_candidates_are_not_all_named(sqlite_address):
    keep(sqlite_address, *(record(f"alpha-{number}") for number in range(9)))
    result = run("show", "alpha", "--store", sqlite_address)
    assert "begins 9 sessions: alpha-0, alpha-1, alpha-2, alpha-3, alpha-4, …; give" in result.stderr


# --- Parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-5_000, "0 s"), (0, "0 s"), (59_999, "59 s"), (60_000, "1 min"), (HOUR_MS - 1, "59 min"), (HOUR_MS, "1 h"),
        (48 * HOUR_MS - 1, "47 h"), (48 * HOUR_MS, "2 d"), (1000 * 24 * HOUR_MS, "1000 d"),
    ],
)  # fmt: skip
def test_a_span_is_told_in_one_unit(ms, text):
    assert span_text(ms) == text


def test_shortened_ids_tell_sessions_apart():
    assert short_ids([]) == {}
    assert short_ids(["a" * 32]) == {"a" * 32: "a" * 12}
    ids = ["team-one-agent-1", "team-one-agent-2", "zzzz"]
    assert list(short_ids(ids).values()) == ids
    assert short_ids(["aaaa", "aaaa-bbbb"])["aaaa-bbbb"] == "aaaa-bbbb"


class Terminal:
    """A stderr that is a terminal to whoever asks."""

    def isatty(self):
        return True


@pytest.mark.parametrize(("patience_s", "is_shown"), [(-1.0, True), (3600.0, False)])
def test_a_bar_is_shown_when_reading_takes_long(monkeypatch, patience_s, is_shown):
    monkeypatch.setattr(sessions_module, "PATIENCE_S", patience_s)
    bars = []
    monkeypatch.setattr(sessions_module.Progress, "start", lambda bar: bars.append(bar))
    monkeypatch.setattr(sessions_module.sys, "stderr", Terminal())
    with sessions_module._progress(10) as progress:
        progress(1)
    assert bool(bars) is is_shown
